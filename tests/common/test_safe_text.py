"""Hostile and endless text in messages."""

import os

import pytest

from moderation.common.safe_text import shortened, shortened_words, visible


def test_long_words_are_cut_in_the_middle_and_short_ones_stay() -> None:
    path = "/tmp/" + "d/" * 2500 + "end.jpg"  # noqa: S108 - a name only
    assert shortened("short") == "short"
    assert shortened(path).startswith("/tmp/d/d/")  # noqa: S108
    assert shortened(path).endswith("d/end.jpg (5,012 bytes)")
    assert len(shortened(path)) < 200
    told = shortened_words(f"cannot read {path!r}: File name too long")
    assert told.startswith("cannot read '/tmp/d/d/")
    assert told.endswith("(5,012 bytes)': File name too long")
    assert shortened_words("many short words " * 100) == "many short words " * 100


@pytest.mark.parametrize("raw", [b"\xff" * 300, b"new\nline" * 40])
def test_any_object_name_can_be_shown_safely(raw: bytes) -> None:
    visible(shortened(os.fsdecode(raw))).encode()
