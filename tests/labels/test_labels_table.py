"""Tables of other columns than those of labels, read with the same care."""

import pytest

from moderation.errors import SettingsError
from moderation.labels.labels_table import Columns, Table

COLUMNS = ("uri", "sha256")


def rows(raw: bytes) -> list[tuple[int, dict[str, str] | str]]:
    return list(Table(raw, "images.csv", Columns(COLUMNS, COLUMNS[:1])))


def test_a_table_may_have_one_column_and_any_delimiter() -> None:
    assert rows(b"uri\na,b.jpg\n") == [(2, "2 values where 1 belong: put quotes around values that hold commas")]
    assert rows(b'uri\n"a,b.jpg"\n\nc.jpg\n') == [(2, {"uri": "a,b.jpg"}), (4, {"uri": "c.jpg"})]
    assert rows(b"SHA256;URI\n12;a.jpg\n") == [(2, {"sha256": "12", "uri": "a.jpg"})]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "its first line must be uri$"),
        (b"uri,uri\n", "two columns 'uri'"),
        (b"urls\n", "there is no column 'uri', only 'urls'"),
        (b"\xff\x00\x9d\n", "not UTF-8"),
    ],
)
def test_what_is_no_such_table_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        rows(raw)
