"""JPEG files decoded by the GPU: which files, in which groups, how they are resized, and a check of itself at the start."""
