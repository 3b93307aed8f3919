"""Hash lists against all that published runs have seen: by stored hashes, so that no image is read."""
