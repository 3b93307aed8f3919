"""Labels: people's answers about images in CSV files, as programs and spreadsheets write them. Pure."""
