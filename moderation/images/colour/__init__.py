"""Colours as browsers show them: profiles and colour chunks of files, converted to sRGB."""
