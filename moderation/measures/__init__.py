"""How right decisions and people are, in numbers with intervals: precision, recall, agreement. No run is changed."""
