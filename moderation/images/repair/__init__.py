"""Files that browsers show and Pillow does not read as they are, rewritten so that it does. Bytes in, bytes out."""
