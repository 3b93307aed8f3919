"""Text in CSV files that spreadsheets open: what starts like a formula would be run as one. Pure."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Characters that start a formula in a spreadsheet, or that it skips before one; the last four are full-width."""


def defused(text: str) -> str:
    """`text` with an apostrophe before it if a spreadsheet would run it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def restored(text: str) -> str:
    """What `defused` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
