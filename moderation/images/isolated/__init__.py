"""Decoders of formats that are rare and large: each image is decoded by a process of its own, under limits of the system.

`child`, `libjxl` and `resvg` run in that process, with the standard library and one decoder; the others start it.
"""
