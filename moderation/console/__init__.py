"""What the commands print on the terminal. It computes nothing and defines no commands."""
