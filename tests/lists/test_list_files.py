"""List files: what is read, and what is said of files that are wrong."""

import gzip
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.lists import exchange_json, lines
from moderation.lists.hash_list import HashKind
from moderation.lists.problems import MOST_ERRORS, MOST_WARNINGS
from moderation.lists.reading import ReadList, read_list

# From the reference's own examples (`threatexchange`, PdqSignal.get_examples).
A = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
B = "e64cc9d91c623882f8d1f1d9a398e78c9f199b3bd83924f2b7e11e0bf861b064"
C = "c186f9619659658c4b6916daf934496985f4259c72c39676ab9edb631c3c349c"
MD5 = "facefacefacefacefacefacefaceface"


def read(content: bytes | str, kind: HashKind = HashKind.PDQ, min_quality: int = 50) -> ReadList:
    raw = content.encode() if isinstance(content, str) else content
    return read_list(io.BufferedReader(io.BytesIO(raw), 1 << 16), "known.csv", kind, min_quality)  # type: ignore[arg-type]


def entries(found: ReadList) -> dict[str, str]:
    assert found.content is not None, [str(error) for error in found.errors]
    return {found.content.hex(n): found.content.labels[n].as_py() for n in range(len(found.content))}


def places(found: ReadList) -> list[tuple[int, int, str]]:
    assert found.content is None
    return [(error.line, error.column, error.message) for error in found.errors]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{A}\n{B}\n", {A: "", B: ""}),
        (f"\n# from the desk\n  {A.upper()}  \r\n\r\n{B}", {A: "", B: ""}),
        (f"\ufeff{A}\n", {A: ""}),
        (f"pdq {A}\nHASH_PDQ {B}\nmd5 {MD5}\n", {A: "", B: ""}),
        (f"{A}  photos/one two.jpg\n{B} *two.jpg\n", {A: "photos/one two.jpg", B: "two.jpg"}),
        (f"hash,label\n{A},fake bag\n# note\n{B},\n", {A: "fake bag", B: ""}),
        (f"hash\n{A}\n", {A: ""}),
        (f"Label;Type;Hash\nbag;PDQ;{A}\nfilm;md5;{MD5}\n", {A: "bag"}),
        (f'id,pdq,tags,category\n1,{A},"a, b",""\n2,"{B}","say ""hi""",x\n', {A: "a, b", B: 'say "hi" x'}),
        (f"{A},87,one.jpg\n{B},100,two.jpg\n", {A: "one.jpg", B: "two.jpg"}),
        (f"{A}\tbag\n{B}\tshoe\n", {A: "bag", B: "shoe"}),
        (f"pdq,{A},bag\nsha256,{B},shoe\n", {A: "bag"}),
    ],
)
def test_formats(content: str, expected: dict[str, str]) -> None:
    assert entries(read(content)) == expected


def update(indicator: str, kind: str = "HASH_PDQ", **more: object) -> dict[str, object]:
    descriptors = {"data": [{"status": "MALICIOUS", "tags": ["bag", "fake"]}]}
    return {"id": "1", "indicator": indicator, "type": kind, "should_delete": False, "descriptors": descriptors} | more


UPDATES = [
    update(A),
    update(B, should_delete=True),
    update(MD5, "HASH_MD5"),
    update(C, descriptors={"data": [{"status": "NON_MALICIOUS", "tags": None}]}),
    {"id": "5", "raw_indicator": B[::-1], "type": "HASH_PDQ", "status": "MALICIOUS", "tags": {"data": [{"text": "x"}]}},
]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"data": UPDATES, "paging": {"cursors": {"before": "[x]", "after": "}"}}}),
        json.dumps({"paging": {"next": "https://x"}, "data": UPDATES}, indent=2),
        json.dumps(UPDATES),
        "\n".join(json.dumps(one) for one in UPDATES),
        json.dumps({"data": UPDATES[:2]}) + "\n" + json.dumps({"data": UPDATES[2:]}),
    ],
)
def test_threat_exchange_json(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for piece in (1 << 20, 7):
        monkeypatch.setattr(exchange_json, "_PIECE", piece)
        found = read(content)
        assert entries(found) == {A: "bag fake", B[::-1]: "x"}
        assert found.withdrawn == {"deleted": 1, "non-malicious": 1}
        assert found.other_kinds == {"HASH_MD5": 1}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{A}\n{B[:-1]}\n", [(2, 1, "PDQ hashes have 64 hex digits; this has 63 characters")]),
        (f"{A}\n{MD5}\n", [(2, 1, "PDQ hashes have 64 hex digits; this has 32 characters")]),
        (f"hash,label\n{A},x\n{B[:9]}g{B[10:]},y\n,z\n", [(3, 10, "'g' is no hex digit"), (4, 1, "no hash")]),
        (f"label,hash\nx,{B[:-1]}é\n", [(2, 66, "'é' is no hex digit")]),
        ("0" * 64, [(1, 1, "a hash of zeros only: no picture has this PDQ")]),
        ("F" * 64, [(1, 1, "a hash of ones only: no picture has this PDQ")]),
        (f"hash,quality\n{A},49\n", [(2, 66, "a quality of 49 is under 50: the hash would match unlike pictures")]),
        (f"hash,quality\n{A},good\n", [(2, 66, "a quality is a whole number from 0 to 100, not 'good'")]),
        (f"hash,quality\n{A},-3\n", [(2, 66, "a quality is a whole number from 0 to 100, not '-3'")]),
        (f'hash,label\n{A},"bag\n{B},x\n', [(2, 66, "a quote is not closed in this line")]),
        (f"label,hash\nx,{A}\ny\n", [(3, 2, "1 columns where 2 are needed")]),
        ("name,colour\nx,red\n", [(1, 1, "no column is known to hold hashes: name, colour")]),
        (f"{A}\n{B}\0\n", [(2, 65, "a NUL byte in the line")]),
        (f"{A}\r{B}\r", [(1, 65, "a carriage return inside the line")]),
        (f"{A}\n".encode() + b"\xe4\n", [(2, 1, "the byte 0xe4 is no UTF-8 text")]),
        (f"{A}\n".encode("utf-16"), [(1, 1, "the file is UTF-16 text")]),
        (f"{A}\n".encode("utf-16-le"), [(1, 1, "the file holds NUL bytes: it is binary, or UTF-16 text")]),
        (gzip.compress(A.encode(), mtime=0), [(1, 1, "the file is compressed by gzip, not text")]),
        (b"", [(1, 1, "the file has no PDQ entry")]),
        ("# nothing\n\n", [(1, 1, "the file has no PDQ entry")]),
        (f"md5 {MD5}\n", [(1, 1, "the file has no PDQ entry; it has: md5")]),
        ("{}", [(1, 1, "an entry without an `indicator`, the hash as text")]),
        ("[3]", [(1, 2, "an entry is an object, not 3")]),
        ('{"data": [\n {"indicator": "' + A + '", "type": "HASH_PDQ"},\n oops]}', [(3, 2, "not JSON: expecting value")]),
        ('[{"indicator": "' + A + '"}', [(1, 83, "not JSON: the array is not closed")]),
        ("[" * 100_000, [(1, 2, "not JSON: nested too deeply")]),
        ('[{"indicator": ' + "9" * 5000 + "}]", None),
    ],
)
def test_mistakes_have_places(content: bytes | str, expected: list[tuple[int, int, str]] | None) -> None:
    found = read(content)
    if expected is None:
        assert len(places(found)) == 1
    else:
        assert places(found) == expected


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("0x" + A, "leave out `0x`"),
        ("+PjwzuD0qE8GNwoiA49j8LNuLtWWYh4dM+aznE6cmyI=", "this is base64: write the hash as hex digits"),
        (MD5, "this is as long as an MD5: is the list's `hash` right?"),
    ],
)
def test_hints_say_what_it_is(value: str, hint: str) -> None:
    assert [error.hint for error in read(value).errors] == [hint]


def test_the_finding_shows_line_and_caret() -> None:
    error = read(f"hash,label\n{B[:9]}g{B[10:]},y\n").errors[0]
    shown = str(error).splitlines()
    assert shown[0] == "known.csv:2:10: 'g' is no hex digit"
    assert shown[1][shown[2].index("^")] == "g"


def test_duplicates_are_left_out_and_reported_with_both_lines() -> None:
    found = read(f"hash,label\n{A},first\n{B},x\n{A.upper()},second\n{A},third\n")
    assert entries(found) == {A: "first", B: "x"}
    assert found.duplicates == 2
    assert [(w.line, w.message) for w in found.warnings] == [
        (4, "the same hash as in line 2"),
        (5, "the same hash as in line 2"),
    ]


def test_other_kinds_have_their_own_lengths_and_the_empty_file_is_odd() -> None:
    assert entries(read(f"{MD5}\n", HashKind.MD5)) == {MD5: ""}
    found = read("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n", HashKind.SHA256)
    assert [w.message for w in found.warnings] == ["this is the hash of an empty file"]
    assert places(read("0" * 32, HashKind.MD5)) == [(1, 1, "a hash of zeros only: no picture has this MD5")]


def test_quality_has_a_setting() -> None:
    assert entries(read(f"{A},30,x\n", min_quality=30)) == {A: "x"}
    assert entries(read(f"hash,quality\n{A},3\n", HashKind.SHA256)) == {A: ""}


def test_unknown_types_are_reported_once() -> None:
    found = read(f"pdq {A}\n" + f"pqd {B}\n" * 30)
    assert [(w.line, w.column) for w in found.warnings] == [(2, 1)]
    assert found.other_kinds == {"pqd": 30}


def test_sha256_given_as_pdq_is_doubted() -> None:
    rng = random.Random(1)
    numbers = "\n".join(f"{rng.getrandbits(256):064x}" for _ in range(200))
    assert [w.message for w in read(numbers).warnings] == [
        "most entries do not have half of their bits set, as PDQ hashes have"
    ]
    assert not read(numbers, HashKind.SHA256).warnings


def test_millions_of_mistakes_are_a_readable_number() -> None:
    found = read("nonsense\n" * 100_000)
    assert len(found.errors) == MOST_ERRORS + 1
    assert found.errors[-1].message == f"{MOST_ERRORS} errors up to this line: the rest of the file is not read"
    found = read(f"{A}\n" * 1_000)
    assert (len(found.warnings), found.unshown, found.duplicates) == (MOST_WARNINGS, 999 - MOST_WARNINGS, 999)


def test_endless_lines_are_skipped_in_pieces() -> None:
    long = "x" * (lines.MAX_LINE * 40)
    assert places(read(f"{A}\n{long}\n{B[:-1]}\n")) == [
        (2, 1, "a line of more than 65,536 bytes"),
        (3, 1, "PDQ hashes have 64 hex digits; this has 63 characters"),
    ]


def test_an_object_without_end_is_not_read_to_the_end() -> None:
    found = read('[{"indicator": "' + "a" * 5_000_000)
    assert len(places(found)) == 1
    assert "no end within" in found.errors[0].message


def test_the_digest_is_of_content_and_not_of_order_or_layout() -> None:
    one, two = read(f"{A},90,x\n{B},90,y\n"), read(f"# other\nhash,label\n{B},y\n{A.upper()},x\n")
    other = read(f"{A},90,x\n{B},90,z\n")
    assert one.content is not None
    assert two.content is not None
    assert other.content is not None
    assert one.content.digest == two.content.digest != other.content.digest


PIECES = [A, B[:-1], ",", '"', "\n", "\r", "pdq ", "{", "}", "[", '"indicator":', "\0", "hash", "#", ";", "\x85"]


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(PIECES)).map("".join).map(str.encode)))
def test_no_content_raises(content: bytes) -> None:
    found = read(content)
    assert (found.content is None) == bool(found.errors)
    for finding in [*found.errors, *found.warnings]:
        assert finding.line >= 1
        assert finding.column >= 1
        assert str(finding)


def test_many_entries_are_read_in_order_of_their_bytes(tmp_path: Path) -> None:
    hashes = np.random.default_rng(3).integers(0, 256, (70_000, 32), np.uint8)
    path = tmp_path / "many.txt"
    path.write_text("".join(f"{one.tobytes().hex()}\n" for one in hashes))
    with path.open("rb") as stream:
        found = read_list(stream, "many.txt", HashKind.SHA256)
    assert found.content is not None
    assert sorted(one.tobytes() for one in hashes) == [one.tobytes() for one in found.content.hashes]
