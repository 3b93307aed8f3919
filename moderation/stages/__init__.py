"""The stages of a run, one file each, in the order of `moderation.pipeline`, which alone puts them together."""
