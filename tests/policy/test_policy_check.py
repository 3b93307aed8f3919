"""`moderate policy check`: the model a policy names, what is odd in it, and the formats for editors and CI."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from moderation.authoring.check import Checked, check_policy
from moderation.common.findings import Finding, as_github, as_json
from moderation.demo import POLICY_FILE
from moderation.model.catalog import facts_of
from moderation.policy.languages import reads_many_languages, why_not_english
from moderation.policy.model_choice import ModelChoice

TODAY = date(2026, 11, 21)
GOOD = """\
policy: check
model: {name: demo}
contrast: [a cat, a tree]
rules:
  - id: knives
    prompts: [a kitchen knife]
    contrast: [a spoon]
    review: 0.5
  - id: beer
    prompts: [a beer mug]
    contrast: [a teacup]
    review: 0.5
"""


def check(tmp_path: Path, *changes: tuple[str, str]) -> Checked:
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / "p.yaml").write_text(text)
    return check_policy(tmp_path / "p.yaml", today=TODAY)


def told(checked: Checked) -> list[tuple[int, int, str, str]]:
    return [(f.line, f.column, f.level, f.message) for f in checked.findings]


def test_a_clean_policy_has_no_findings(tmp_path: Path) -> None:
    checked = check(tmp_path)
    assert (checked.ok, checked.findings, checked.note) == (True, (), "")


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("name: demo", "name: VIT-B-33", (2, 15), "unknown model 'VIT-B-33'"),
        ("name: demo", "name: ViT-B-32", (2, 15), "needs `pretrained`"),
        ("name: demo", "name: ViT-B-32, pretrained: laion2b", (2, 37), "no pretrained tag 'laion2b'"),
        ("name: demo", "name: demo, pretrained: x", (2, 33), "has its own weights"),
        ("name: demo", "name: ViT-B-32, pretrained: ./w.pt", (2, 37), "the pretrained tags of ViT-B-32 differ in `quick_gelu`"),
        ("name: demo", "name: ViT-S-32, pretrained: ./w.pt", (2, 37), "open_clip has no pretrained tag of ViT-S-32"),
        ("name: demo", "name: ViT-B-32, pretrained: ./w.pt, preprocess: opnai", (2, 57), "no pretrained tag 'opnai'"),
        ("name: demo", "name: ViT-B-32, pretrained: ./w.pt, preprocess: openai", (2, 37), "w.pt does not exist: "),
        ("[a teacup]", "[a teacup]\n    score: sigmoid", (12, 12), "`sigmoid` needs a model of the SigLIP family"),
        (
            "a beer mug",
            "a beer mug " + "on a very long table " * 6,
            (10, 15),
            "tokens in its longest template; the model reads 24",
        ),
    ],
)
def test_what_the_model_cannot_do_is_an_error_at_its_place(
    tmp_path: Path, old: str, new: str, place: tuple[int, int], message: str
) -> None:
    checked = check(tmp_path, (old, new))
    assert not checked.ok
    ((line, column, level, found),) = told(checked)
    assert ((line, column), level) == (place, "error")
    assert message in found
    assert checked.findings[0].hint


def test_the_model_is_checked_beside_other_mistakes(tmp_path: Path) -> None:
    checked = check(tmp_path, ("name: demo", "name: dmeo"), ("review: 0.5\n  - id: beer", "review: 5\n  - id: beer"))
    assert [line for line, *_ in told(checked)] == [2, 8]
    assert "did you mean demo" in checked.findings[0].hint


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ([("a teacup", "a kitchen knife that is not sharp")], (11, 16), "CLIP ignores 'not'"),
        ([("    contrast: [a teacup]\n", "")], (9, 5), "has no lookalikes of its own"),
        ([("review: 0.5\n  - id: beer", "block: 0.5\n  - id: beer")], (8, 12), "no example shows that it blocks"),
        (
            [("    contrast: [a teacup]", "    contrast: [a teacup]\n    mode: shadow\n    review_by: 2026-11-20")],
            (13, 16),
            "was due",
        ),
        ([("    contrast: [a teacup]", "    contrast: [a teacup]\n    review_by: 2027-11-20")], (12, 16), "has no effect"),
        (
            [("    contrast: [a teacup]\n    review: 0.5", "    score: similarity\n    review: 0.7")],
            (12, 13),
            "is outside 0.1 to 0.4",
        ),
        ([("[a beer mug]", "[a beer mug, the kitchen knife]")], (10, 27), "means the same to the model as 'a kitchen knife'"),
    ],
)
def test_odd_but_valid_settings_are_warnings_with_a_reason(
    tmp_path: Path, changes: list[tuple[str, str]], place: tuple[int, int], message: str
) -> None:
    checked = check(tmp_path, *changes)
    assert checked.ok
    matching = [(line, column, level) for line, column, level, found in told(checked) if message in found]
    assert matching == [(*place, "warning")], told(checked)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "review: 0.5\n  - id: beer",
            "review: 0\n  - id: beer",
            "`review: 0` of the rule 'knives': every image goes to a person",
        ),
        ("review: 0.5\n  - id: beer", "review: 0.01\n  - id: beer", "nearly every image goes to a person"),
        ("review: 0.5\n  - id: beer", "block: 0\n  - id: beer", "every image is blocked"),
        ("review: 0.5\n  - id: beer", "review: 1\n  - id: beer", "almost no image goes to a person"),
        ("a beer mug", "Spinne", "'Spinne': the model never saw 'spinne'"),
        ("a beer mug", "eine Spinne", "the model never saw 'eine' and 'spinne'"),
        ("a beer mug", "🕷️", "'🕷️': it contains an emoji, which captions do not have"),
        ("a beer mug", "паук", "it is written in Cyrillic letters"),
        ("a beer mug", "ビール", "it is written in Japanese"),
        ("a teacup", "eine Tasse", "'eine Tasse': 'eine' is not an English article"),
        (
            "contrast: [a cat",
            'templates: ["ein Foto von {}"]\ncontrast: [a cat',
            "'ein Foto von {}': 'ein' is not an English article",
        ),
    ],
)
def test_thresholds_and_languages_that_surprise_are_warnings(tmp_path: Path, old: str, new: str, message: str) -> None:
    checked = check(tmp_path, (old, new))
    assert checked.ok
    assert any(message in f.message and f.level == "warning" and f.hint for f in checked.findings), told(checked)


@pytest.mark.parametrize(
    ("prompt", "english"),
    [
        ("a spider", True),
        ("a café terrace", True),
        ("a delivery van", True),
        ("AK-47", True),
        ("the Confederate flag", True),
        ("Katze", False),
        ("ein Messer", False),
        ("un chien", False),
        ("une araignée", False),
        ("araña", False),
        ("het mes", False),
    ],
)
def test_other_languages_are_seen_without_a_vocabulary_too(prompt: str, english: bool) -> None:
    facts = facts_of(ModelChoice(name="ViT-B-32", pretrained="laion2b_s34b_b79k"))
    assert (why_not_english(prompt, None, lambda text: facts.count_tokens(text) - 2) == "") == english


@pytest.mark.parametrize(
    ("name", "many"), [("xlm-roberta-base-ViT-B-32", True), ("ViT-B-16-SigLIP2", True), ("ViT-B-32", False)]
)
def test_models_of_many_languages_are_known_by_name(name: str, many: bool) -> None:
    assert reads_many_languages(name, "laion5b_s13b_b90k") == many


def test_yaml_that_means_something_else_than_it_looks_is_a_warning(tmp_path: Path) -> None:
    checked = check(tmp_path, ("[a beer mug]", "[a beer mug; a pint]"))
    assert checked.ok
    assert "`;` separates nothing" in str([f.message for f in checked.findings])


def test_examples_whose_images_are_missing_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "Knife.jpg").touch()
    lines = ["examples/Knife.jpg", "examples/knife.jpeg", "nothing.png", "s3://shop/a.jpg", "demo://listings/48903-coin.jpg"]
    examples = "examples:\n" + "".join(f"  - {{image: {name!r}, expect: allow}}\n" for name in [*lines, "demo://none.png"])
    checked = check(tmp_path, ("  - id: beer\n", "  - id: beer\n"), (GOOD, GOOD + examples))
    assert not checked.ok
    assert [(f.line, f.message, f.hint) for f in checked.findings] == [
        (15, "there is no image 'examples/knife.jpeg' next to the policy", "did you mean 'examples/Knife.jpg'?"),
        (
            16,
            "there is no image 'nothing.png' next to the policy",
            "copy the image there: paths are relative to the policy's folder",
        ),
        (19, "there is no image 'demo://none.png' next to the policy", "demo:// names pictures included in the program"),
    ]


def test_a_copy_of_the_demo_policy_keeps_its_examples(tmp_path: Path) -> None:
    copy = tmp_path / "try.yaml"
    copy.write_bytes(POLICY_FILE.read_bytes())
    assert check_policy(copy, compare_prompts=False, today=TODAY).findings == ()


def test_signs_that_say_no_are_things_to_be_seen(tmp_path: Path) -> None:
    assert check(tmp_path, ("a teacup", "a no smoking sign")).findings == ()


def test_the_demo_policy_is_clean() -> None:
    assert check_policy(POLICY_FILE, today=TODAY).findings == ()


def test_findings_are_printed_as_json_and_github_annotations() -> None:
    finding = Finding("a,b:c.yaml", 3, 7, "50% of\nit is wrong", "write `x`", "error", "  review: y", 1)
    assert json.loads(as_json([finding]))[0] == {
        "file": "a,b:c.yaml",
        "line": 3,
        "column": 7,
        "message": "50% of\nit is wrong",
        "hint": "write `x`",
        "level": "error",
        "source": "  review: y",
        "length": 1,
    }
    assert as_github([finding]) == (
        "::error file=a%2Cb%3Ac.yaml,line=3,col=7,title=moderation policy::50%25 of%0Ait is wrong%0Awrite `x`"
    )


def test_hostile_lines_do_no_harm_in_a_terminal() -> None:
    text = str(Finding("p", 1, 5, "m", source="\tx: \x1b[2J\u202e" + "y" * 500, length=400))
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
    assert max(map(len, text.splitlines())) < 130


def test_the_command_exits_with_1_on_errors_and_prints_one_line_for_clean_files(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "moderation.cli", "policy", "check", *arguments], capture_output=True, text=True, check=False
        )

    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD)
    bad.write_text(GOOD.replace("prompts: [a beer mug]", "promts: [a beer mug]"))
    clean = run(str(good))
    assert (clean.returncode, len(clean.stdout.splitlines()), clean.stderr) == (0, 1, "")
    both = run(str(good), str(bad))
    assert both.returncode == 1
    assert f"{bad}:10:5: unknown key `promts`" in both.stdout
    assert "did you mean `prompts`?" in both.stdout
    findings = json.loads(run(str(bad), "--json").stdout)
    assert {f["line"] for f in findings} == {10}, "a misspelt key is not missing too"
    github = run(str(bad), "--format", "github")
    assert github.returncode == 1
    assert all(line.startswith("::error file=") for line in github.stdout.splitlines())
    missing = run(str(tmp_path / "nothing.yaml"))
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
