"""Labels: people's answers about images, and the CSV tables they are read from. Pure but for opening files."""
