"""The commands of `moderate`, one file per group; `moderation.console` prints. `moderation.cli` puts them together.

Heavy libraries come in inside the functions, so that `--help` is quick.
"""
