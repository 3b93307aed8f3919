"""Which images a policy's exemplars are: names, patterns, labels and lists; and every mistake at its place."""

import hashlib
import shutil
from datetime import date
from pathlib import Path

import boto3
import pytest
from PIL import Image

from moderation import Store
from moderation.authoring.check import check_policy
from moderation.demo import IMAGES_DIR
from moderation.policy.comparison import compare
from moderation.policy_files.exemplar_files import MAX_EXEMPLARS
from moderation.policy_files.loading import load_policy, read_policy

PICTURES = sorted((IMAGES_DIR / "listings").glob("*.png"))[:6]
POLICY = """policy: shop
model: {{name: demo}}
background: {background}
rules:
  - id: knives
    score: examples
    like: {like}
    unlike: {unlike}
    review: 0.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, picture in enumerate(PICTURES):
        shutil.copy(picture, tmp_path / f"{number}.png")
    return tmp_path


def write(folder: Path, like: str = "[0.png]", unlike: str = "[]", background: str = "[5.png]") -> Path:
    path = folder / "p.yaml"
    path.write_text(POLICY.format(like=like, unlike=unlike, background=background))
    return path


def names(folder: Path, **keys: str) -> list[list[str]]:
    assets = load_policy(write(folder, **keys)).assets
    own = assets.exemplars["knives"]
    return [[one.name for one in images] for images in (own.like, own.unlike, assets.background)]


def mistakes(folder: Path, **keys: str) -> list[tuple[int, str]]:
    return [(one.line, one.message) for one in read_policy(write(folder, **keys)).findings]


def sha(number: int) -> str:
    return hashlib.sha256(PICTURES[number].read_bytes()).hexdigest()


def test_names_and_patterns_are_relative_to_the_policy(folder: Path) -> None:
    (folder / "more" / "deep").mkdir(parents=True)
    shutil.copy(PICTURES[1], folder / "more" / "a.png")
    shutil.copy(PICTURES[2], folder / "more" / "deep" / "b.png")
    assert names(folder, like="[0.png, more/*.png]") == [["0.png", "more/a.png"], [], ["5.png"]]
    assert names(folder, like='["more/**/*.png"]')[0] == ["more/a.png", "more/deep/b.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    shutil.copy(PICTURES[1], folder / "IMG [1].png")
    assert names(folder, like='["IMG [1].png"]')[0] == ["IMG [1].png"]


def test_bundled_pictures_and_those_at_home_are_named_the_same_on_every_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert names(folder, like='["~/[01].png"]', unlike='["demo://listings/48063-*.webp"]') == [
        ["~/0.png", "~/1.png"],
        ["demo://listings/48063-pig-nose.webp"],
        ["5.png"],
    ]
    shutil.copy(PICTURES[2], folder / "own.png")
    assert names(folder, like='["~/own.png"]')[0] == ["~/own.png"]


def test_an_image_that_a_pattern_repeats_counts_once(folder: Path) -> None:
    assert names(folder, like='["[01].png", "[12].png"]')[0] == ["0.png", "1.png", "2.png"]


def test_labels_say_what_is_liked_and_what_is_not(folder: Path) -> None:
    (folder / "labels").mkdir()
    lines = [
        "uri,rule,label",
        "../0.png,knives,true",
        f"file://{folder}/1.png,knives,no",
        "../2.png,others,true",
        "../3.png,knives,",
    ]
    (folder / "labels" / "l.csv").write_text("\n".join(lines))
    found = names(folder, like="{labels: labels/l.csv}", unlike="[2.png, {labels: labels/l.csv}]")
    assert found == [["0.png"], ["2.png", f"file://{folder}/1.png"], ["5.png"]]


def test_labels_for_any_rule_make_a_background(folder: Path) -> None:
    (folder / "l.csv").write_text("uri,rule,label\n4.png,any,false\n3.png,any,true\n")
    assert names(folder, background="{labels: l.csv}")[2] == ["4.png"]


def test_a_list_with_hashes_is_not_read(folder: Path) -> None:
    gone = "a" * 64
    (folder / "images.csv").write_text(f"uri,sha256\ngone.png,{gone}\n4.png,\n")
    assets = load_policy(write(folder, background="{images: images.csv}")).assets
    assert [(one.name, one.sha256) for one in assets.background] == [("gone.png", gone), ("4.png", sha(4))]


def test_a_file_alone_is_the_same_policy_as_a_list_of_it(folder: Path) -> None:
    (folder / "images.csv").write_text("uri\n4.png\n")
    alone = load_policy(write(folder, background="{images: images.csv}"))
    assert alone.hash == load_policy(write(folder, background="[{images: images.csv}]")).hash


def test_what_an_included_policy_names_is_relative_to_it(folder: Path) -> None:
    (folder / "base").mkdir()
    for name in ("0.png", "4.png"):
        shutil.move(folder / name, folder / "base" / name)
    (folder / "base" / "images.csv").write_text("uri\n4.png\n")
    (folder / "base" / "l.csv").write_text("uri,rule,label\n0.png,knives,true\n")
    write(folder / "base", like="{labels: l.csv}", background="{images: images.csv}")
    (folder / "p.yaml").write_text("include: base/p.yaml\npolicy: ours\nbackground: [5.png]\n")
    assets = load_policy(folder / "p.yaml").assets
    assert [one.name for one in assets.exemplars["knives"].like] == ["base/0.png"]
    assert [one.name for one in assets.background] == ["base/4.png", "5.png"]


def test_objects_and_patterns_of_s3(folder: Path, s3_endpoint: str) -> None:
    boto3.client("s3").create_bucket(Bucket="exemplars")
    bucket = "s3://exemplars"
    store = Store(bucket)
    for number in range(4):
        store.put(f"sure/fake {number}.png", PICTURES[number].read_bytes())
    store.put("sure/deep/fake 9.png", PICTURES[4].read_bytes())
    store.put("l.csv", b"uri,rule,label\nsure/fake 3.png,knives,false\n")
    found = names(
        folder, like=f'["{bucket}/sure/fake [01].png", "{bucket}/sure/fake 2.png"]', unlike=f"{{labels: {bucket}/l.csv}}"
    )
    assert found[0] == [f"{bucket}/sure/fake {number}.png" for number in range(3)]
    assert found[1] == [f"{bucket}/sure/fake 3.png"]
    assert [message for _, message in mistakes(folder, like=f'["{bucket}/sure/no*.png", "{bucket}/gone.png"]')] == [
        f"no file matches '{bucket}/sure/no*.png'",
        f"there is no file '{bucket}/gone.png'",
    ]


def test_all_mistakes_are_reported_at_once_each_at_its_place(folder: Path) -> None:
    (folder / "words.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(PICTURES[3].read_bytes()[:40])
    (folder / "folder").mkdir()
    found = mistakes(folder, like="[gone.png, words.png, 0.png]", unlike="[empty.png, cut.png, folder]", background="[5.png]")
    assert [line for line, _ in found] == [7, 7, 8, 8, 8]
    assert [message.split(":")[0] for _, message in found] == [
        "there is no file 'gone.png'",
        "'words.png' cannot be decoded",
        "'empty.png' cannot be decoded",
        "'cut.png' cannot be decoded",
        "'folder' is a folder",
    ]


def test_an_image_cannot_be_liked_and_not(folder: Path) -> None:
    shutil.copy(PICTURES[0], folder / "again.png")
    found = mistakes(folder, like="[0.png]", unlike="[1.png, again.png]", background="[5.png, 0.png]")
    assert found == [
        (3, "'0.png' is what the rule 'knives' looks for"),
        (8, "'again.png' is the same image as '0.png', which is what the rule 'knives' looks for"),
    ]


LABELS = "uri,rule,label\n0.png,knives,true\n1.png,guns,false\n"


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        (LABELS, {"unlike": "{labels: f.csv}"}, "'f.csv' has no image that is labelled false for 'knives'"),
        (LABELS.replace("knives", "drills"), {"like": "{labels: f.csv}"}, "'f.csv' has no label for 'knives'"),
        (LABELS.replace("0.png", "gone.png"), {"like": "{labels: f.csv}"}, "f.csv:2: there is no file 'gone.png'"),
        (LABELS, {"background": "{images: f.csv}"}, "f.csv:3: there is no file"),
        ("url\na.png\n", {"background": "{images: f.csv}"}, "f.csv:1: there is no column 'uri'"),
        ("uri,sha256\n4.png,12\n", {"background": "{images: f.csv}"}, "f.csv:2: `sha256` is not 64 hexadecimal digits"),
        ("uri\n", {"background": "{images: f.csv}"}, "'f.csv' lists no image"),
        ("uri,label\n", {"like": "{labels: f.csv}"}, "f.csv:1: there is no column 'rule'"),
    ],
    ids=["other label", "other rule", "gone", "list of labels", "other column", "no hash", "empty", "no labels"],
)
def test_mistakes_in_files_that_name_images(folder: Path, content: str, keys: dict[str, str], message: str) -> None:
    if keys.get("background") and "rule" in content:
        content = content.replace("1.png", "gone.png").replace("0.png", "4.png")
    (folder / "f.csv").write_text(content)
    found = mistakes(folder, **keys)
    assert len(found) == 1
    assert found[0][1].startswith(message)


def test_a_misspelt_key_of_a_file_is_recognized(folder: Path) -> None:
    found = read_policy(write(folder, like="{lables: f.csv}")).findings
    assert [(one.line, one.message) for one in found] == [(7, "unknown key `lables`")]
    assert "labels" in found[0].hint


def test_a_changed_picture_is_named_in_the_comparison(folder: Path) -> None:
    before = load_policy(write(folder, like='["[01].png"]'))
    shutil.copy(PICTURES[3], folder / "1.png")
    (change,) = compare(before, load_policy(write(folder, like='["[01].png"]')))
    assert (change.old, change.new) == (f"1.png ({sha(1)[:8]})", f"1.png ({sha(3)[:8]})")


def test_words_beside_pictures_are_a_mistake(folder: Path) -> None:
    path = write(folder)
    path.write_text(path.read_text() + "    prompts: [a knife]\n")
    found = [(one.line, one.message) for one in read_policy(path).findings]
    assert found == [(10, "`prompts` has no effect on a rule with `score: examples`")]


def test_too_many_are_refused(folder: Path) -> None:
    lines = [f"{number}.png,{number:064x}" for number in range(MAX_EXEMPLARS + 1)]
    (folder / "many.csv").write_text("\n".join(["uri,sha256", *lines]))
    assert mistakes(folder, background="{images: many.csv}") == [(3, "2,001 images; 2,000 are the most")]
    half = [lines[: MAX_EXEMPLARS // 2 + 1], lines[MAX_EXEMPLARS // 2 + 1 :]]
    for number, part in enumerate(half):
        (folder / f"half{number}.csv").write_text("\n".join(["uri,sha256", *part]))
    found = mistakes(folder, background="[{images: half0.csv}, {images: half1.csv}]")
    assert found == [(3, "2,001 images; 2,000 are the most")]


def test_only_some_of_many_mistakes_are_shown(folder: Path) -> None:
    (folder / "f.csv").write_text("uri\n" + "".join(f"gone{number}.png\n" for number in range(9)))
    found = mistakes(folder, background="{images: f.csv}")
    assert len(found) == 6
    assert "4 more images cannot be used" in [message for _, message in found]


def test_what_is_odd_in_labels_is_a_warning(folder: Path) -> None:
    (folder / "l.csv").write_text("uri,rule,label\n0.png,knives,true\n1.png,knives,perhaps\n")
    read = read_policy(write(folder, like="{labels: l.csv}"))
    assert read.policy is not None
    assert [(one.line, one.level) for one in read.merged.warnings] == [(7, "warning")]
    assert "l.csv:3" in read.merged.warnings[0].message


def test_check_reports_exemplars_that_the_model_hardly_tells_apart(folder: Path) -> None:
    with Image.open(PICTURES[0]) as picture:
        picture.save(folder / "again.png", compress_level=1)
        picture.save(folder / "other.png", compress_level=2)
    checked = check_policy(write(folder, like="[0.png, again.png, 1.png]", unlike="[other.png]"), today=date(2026, 1, 1))
    assert checked.ok
    messages = [(one.line, one.message) for one in checked.findings]
    assert any(line == 7 and "'again.png' shows the same to the model as '0.png'" in text for line, text in messages)
    assert any(line == 7 and "'0.png' is near to 'other.png' of `unlike`" in text for line, text in messages)
    checked = check_policy(write(folder, like="[0.png, 1.png]", unlike="[2.png]"), today=date(2026, 1, 1))
    assert not [one.message for one in checked.findings if one.line in (7, 8)]
