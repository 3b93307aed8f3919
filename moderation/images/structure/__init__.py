"""The structure of image files, read from their bytes before any decoder sees them, within limits of time and count."""
