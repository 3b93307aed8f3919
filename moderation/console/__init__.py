"""What the commands print on the terminal. Nothing is worked out here, and no command is defined here."""
