"""The number that was probably meant by an invalid or out-of-range value. Pure."""

import math
import re
import unicodedata

_MINUS = str.maketrans(dict.fromkeys("–—−‐‑‒―﹣－", "-"))
_AROUND = re.compile(r"^(?:>=?|≥|=|~|≈|<=?|≤|ca\.?|about|from|at least|ab)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"(?P<sign>-?)\s*(?P<whole>\d{0,4})(?:\s*[.,·'’:]\s*(?P<part>\d{1,9}))?")
_FRACTIONS = {"¼": 0.25, "½": 0.5, "¾": 0.75}


def number_meant(value: object, lowest: float = 0.0) -> float | None:
    """The number that somebody meant who wrote `50%`, `0,5`, `–0.5`, `0.5# May`, `O.5` or `50`; None where it cannot be said.

    Args:
        value: the value in the file.
        lowest: the smallest number that makes sense; a sign before a number that may not be negative is a slip.

    Returns:
        A number in [lowest, 1].
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _in_range(float(value), lowest, percent=False)
    if not isinstance(value, str) or len(value) > 200:
        return None
    text = value.strip().strip("\"'“”„«»‹›‘’`´").strip()
    if text in _FRACTIONS:
        return _FRACTIONS[text]
    text = unicodedata.normalize("NFKC", text.split("#")[0]).translate(_MINUS).strip(" ;,")
    text = re.sub(r"\s*\(.*\)$", "", text)
    text = _AROUND.sub("", text)
    text = re.sub(r"^([oO])(?=[.,])", "0", text)
    text = re.sub(r"(?<=[\d.,])[oO]|(?<=\d)[fF]$", lambda m: "0" if m[0] in "oO" else "", text)
    percent = bool(re.search(r"(%|٪|percent|per cent|prozent|pour cent)$", text, re.IGNORECASE))
    text = re.sub(r"\s*(%|٪|percent|per cent|prozent|pour cent)$", "", text, flags=re.IGNORECASE).strip(" .")
    match = _NUMBER.fullmatch(text)
    if match is None or not (match["whole"] or match["part"]):
        return None
    number = float(f"{match['sign']}{match['whole'] or '0'}.{match['part'] or '0'}")
    return _in_range(number / 100 if percent else number, lowest, percent=percent)


def did_you_mean(value: object, lowest: float = 0.0) -> str:
    """`did you mean 0.50?`, or an empty text."""
    meant = number_meant(value, lowest)
    return "" if meant is None else f"did you mean {written(meant)}?"


def written(number: float) -> str:
    """A number as a policy would have it: two digits behind the point, more where they matter."""
    return f"{number:.2f}" if round(number, 2) == number else f"{number:.6f}".rstrip("0")


def _in_range(number: float, lowest: float, *, percent: bool) -> float | None:
    if not math.isfinite(number):
        return None
    if -1 <= number < 0 and lowest >= 0:
        number = -number
    if 10 <= number <= 100 and not percent:
        number /= 100
    return round(number, 8) if lowest <= number <= 1 else None
