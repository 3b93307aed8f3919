"""What matches a list, and what becomes of an image that matches."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from moderation.cli import app
from moderation.demo import IMAGES_DIR
from moderation.images.pdq import pdq
from moderation.lists.hash_list import HashKind
from moderation.lists.matching import Match, Matcher, MatchSettings, floods, from_hex
from moderation.lists.reading import read_list
from moderation.lists.turned import TURNS, turned

LIZARD, CARDS = (IMAGES_DIR / "listings" / name for name in ("48091-lizard.jpg", "49533-flower-playing-cards.jpg"))


def picture(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def settings(kind: HashKind = HashKind.PDQ, **more: object) -> MatchSettings:
    return MatchSettings(**({"list": "known", "kind": kind} | more))  # type: ignore[arg-type]


def matcher(content: str, **more: object) -> Matcher:
    wanted = settings(**more)  # type: ignore[arg-type]
    found = read_list(io.BufferedReader(io.BytesIO(content.encode())), "list", wanted.kind).content  # type: ignore[arg-type]
    assert found is not None
    return Matcher(wanted, found)


def test_a_smaller_copy_matches_and_another_picture_does_not() -> None:
    known = matcher(f"hash,label\n{pdq(picture(LIZARD))[0]},lizard\n")
    hashes = [pdq(one)[0] for one in (picture(CARDS), picture(LIZARD).resize((120, 160)))]
    found = known.match(from_hex(hashes, HashKind.PDQ))
    assert list(found) == [1]
    assert (found[1].list, found[1].entry, found[1].label) == ("known", pdq(picture(LIZARD))[0], "lizard")
    assert 0 < found[1].distance <= 31


def test_pictures_with_little_to_tell_are_not_matched() -> None:
    entry = pdq(picture(LIZARD))[0]
    hashes, quality = from_hex([entry, entry, entry], HashKind.PDQ), np.array([49, 50, 100])
    assert list(matcher(entry).match(hashes, quality)) == [1, 2]
    assert list(matcher(entry, min_quality=0).match(hashes, quality)) == [0, 1, 2]


@pytest.mark.parametrize("kind", [HashKind.SHA256, HashKind.MD5])
def test_exact_kinds_match_exactly(kind: HashKind) -> None:
    digests = [hashlib.new(kind.value, str(n).encode()).hexdigest() for n in range(2_000)]
    ending_in_nul = digests[0][:-2] + "00"
    known = matcher("\n".join([f"{one}  file-{n}" for n, one in enumerate(digests[:1_000])] + [ending_in_nul]), kind=kind)
    changed = digests[5][:-1] + ("0" if digests[5][-1] != "0" else "1")
    found = known.match(from_hex([*digests[500:1_500], changed, ending_in_nul], kind))
    assert sorted(found) == [*range(500), 1_001]
    assert found[3] == Match("known", digests[503], "file-503", 0)


def test_the_hash_decides_not_how_many_entries_match() -> None:
    entry = pdq(picture(LIZARD))[0]
    near = entry[:-1] + f"{int(entry[-1], 16) ^ 1:x}"
    found = matcher(f"{near}\n{entry}\n").match(from_hex([entry], HashKind.PDQ))[0]
    assert (found.entry, found.distance, found.entries) == (entry, 0, 2)


OPERATIONS = [
    None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180,
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE,
]  # fmt: skip


@pytest.mark.parametrize("number", range(8))
def test_turned_entries_match_turned_pictures(number: int) -> None:
    operation = OPERATIONS[number]
    known = matcher("\n".join(pdq(picture(path))[0] for path in (LIZARD, CARDS)), turned=True)
    plain = matcher("\n".join(pdq(picture(path))[0] for path in (LIZARD, CARDS)))
    for path in (LIZARD, CARDS):
        seen = picture(path) if operation is None else picture(path).transpose(operation)
        asked = from_hex([pdq(seen)[0]], HashKind.PDQ)
        found = known.match(asked)[0]
        assert (found.entry, found.turn) == (pdq(picture(path))[0], TURNS[number])
        assert (found.distance == 0) == (number in (0, 4))
        assert bool(plain.match(asked)) == (number == 0)


def test_turning_a_hash_again_gives_it_back() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (50, 32), np.uint8)
    for number, back in enumerate((0, 1, 2, 3, 4, 6, 5, 7)):
        assert (turned(turned(hashes)[number])[back] == hashes).all()


def test_an_entry_that_matches_much_of_a_run_is_a_flood() -> None:
    matches = [Match("a", "01", "", 0)] * 30 + [Match("a", "02", "", 0)] * 5 + [Match("b", "01", "", 0)] * 11
    assert floods(matches, 100, 0.10) == [("a", "01", 30), ("b", "01", 11)]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="give 0 to 64"):
        matcher(pdq(picture(LIZARD))[0], distance=65)
    content = matcher(pdq(picture(LIZARD))[0]).content
    with pytest.raises(ValueError, match="no list of MD5"):
        Matcher(settings(HashKind.MD5), content)
    with pytest.raises(ValueError, match="64 hex digits"):
        from_hex(["ab", "cd" * 63], HashKind.PDQ)


def test_check_reports_mistakes_and_ends_with_1(tmp_path: Path) -> None:
    path = tmp_path / "known.csv"
    path.write_text("hash,label\nzz,bag\n")
    found = CliRunner().invoke(app, ["lists", "check", str(path), "--hash", "pdq"])
    assert found.exit_code == 1
    assert f"{path}:2:1: PDQ hashes have 64 hex digits; this has 2 characters" in found.output
    assert found.output.endswith("known.csv: 1 error\n")
    as_json = CliRunner().invoke(app, ["lists", "check", str(path), "--hash", "pdq", "--format", "json"])
    assert [(f["line"], f["column"]) for f in json.loads(as_json.output)] == [(2, 1)]


def test_check_and_info_of_a_good_list(tmp_path: Path) -> None:
    path = tmp_path / "known.csv"
    entry = pdq(picture(LIZARD))[0]
    path.write_text(f"type,hash,label\npdq,{entry},bag\x1b[31m\npdq,{entry},shoe\nmd5,{'ab' * 16},film\n")
    found = CliRunner().invoke(app, ["lists", "check", str(path), "--hash", "pdq"])
    assert (found.exit_code, found.output.splitlines()[-1]) == (0, f"{path}: 1 PDQ entries, 1 warning")
    shown = CliRunner().invoke(app, ["lists", "info", str(path), "--hash", "pdq"])
    assert shown.exit_code == 0
    assert "\x1b[31m" not in shown.output
    for text in ("duplicates left out", "of type md5, left out", "label bag␛[31m"):
        assert text in shown.output


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["lists", "check", str(tmp_path / "none.csv"), "--hash", "md5"])
    assert found.exit_code != 0
    assert "no such file or directory" in str(found.exception)
