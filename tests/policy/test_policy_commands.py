"""`moderate policy show|explain|test|diff|schema`: what they say is what the pipeline does, and hostile names are harmless."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from places import ROOT
from ruamel.yaml import YAML
from support import make_policy

from moderation.authoring import explain as explain_module
from moderation.authoring import explanation_page as page
from moderation.authoring.explain import explain_images, load_encoder
from moderation.cli import main
from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.errors import ErrorCode, PolicyError
from moderation.model.encoder import Encoder
from moderation.policy import Policy
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.explanation import Explanation, distance, explain, unreadable
from moderation.policy.json_schema import schema
from moderation.policy.rule_examples import accuracy, judge, junit_xml
from moderation.policy.schema import Action, Example, Mode
from moderation.policy_files.loading import load_policy
from moderation.scoring.image_scorer import ImageScorer

CIGARETTE = IMAGES_DIR / "listings" / "48070-cigarette.webp"
KNIFE = IMAGES_DIR / "listings" / "49155-kitchen-knife.png"
FOX = IMAGES_DIR / "listings" / "48000-fox.png"
SLIDES = IMAGES_DIR / "uploads" / "slideshow-1.gif"
BROKEN = IMAGES_DIR / "uploads" / "notes.jpg"
HOSTILE = "<img src=x onerror=alert(1)>\u202egpj.\x1b[31m\n[bold]\"'.webp"


def moderate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, as users run it; it takes seconds to load torch."""
    command = [sys.executable, "-m", "moderation.cli", "policy", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


class Here:
    """Commands run in this process, with the model that is loaded already."""

    def __init__(self, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        real = explain_module.load_encoder
        monkeypatch.setattr(explain_module, "load_encoder", lambda p: encoder if p.model.name == "demo" else real(p))
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        self._monkeypatch.setattr(sys, "argv", ["moderate", "policy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(arguments, ended.value.code, *self._capsys.readouterr())


@pytest.fixture
def here(encoder: Encoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(encoder, monkeypatch, capsys)


def as_data(path: Path) -> dict:
    """A policy file as plain JSON values."""
    return json.loads(json.dumps(YAML(typ="safe").load(path.read_text()), default=str))


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo policy with thresholds so low that a model trained anew still reaches them."""
    content = as_data(POLICY_FILE)
    for rule in content["rules"]:
        rule |= {"review": 0.2, "block": 0.3}
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(json.dumps({**content, "examples": []}))
    return path


@pytest.fixture(scope="module")
def demo(policy_file: Path) -> Policy:
    return load_policy(policy_file)


@pytest.fixture(scope="module")
def encoder(demo: Policy) -> Encoder:
    return load_encoder(demo)


@pytest.fixture(scope="module")
def explained(demo: Policy, encoder: Encoder) -> dict[Path, Explanation]:
    images = [CIGARETTE, KNIFE, FOX, SLIDES, BROKEN]
    return dict(zip(images, explain_images(demo, encoder, [str(image) for image in images]), strict=True))


@pytest.fixture
def copy(policy_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a copy of the policy with other examples or keys."""

    def write(name: str = "copy.yaml", **keys: object) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({**as_data(policy_file), **keys}))
        return path

    return write


# explain


def test_explanations_agree_with_the_pipeline(demo: Policy, encoder: Encoder, explained: dict[Path, Explanation]) -> None:
    with ImageScorer(encoder, demo) as scorer:
        rows = scorer.score([FOX, BROKEN, SLIDES, KNIFE, CIGARETTE])
    scores = {(row["uri"], row["rule"]): row for row in rows.scores.to_pylist()}
    decisions = {row["uri"]: row for row in rows.decisions.to_pylist()}
    assert len(explained) == len(decisions) == 5
    for found in explained.values():
        decision = decisions[found.uri]
        assert (found.action, found.top_rule, found.error_code) == tuple(
            decision[key] for key in ("action", "top_rule", "error_code")
        )
        assert (found.etag, found.near_threshold) == (decision["etag"], decision["near_threshold"])
        assert [rule.rule for rule in found.rules if rule.acts] == decision["flags"]
        for rule in found.rules:
            row = scores.pop((found.uri, rule.rule))
            assert (rule.score, rule.action, rule.prompt, rule.cosine, rule.frame) == tuple(
                row[key] for key in ("score", "action", "top_prompt", "similarity", "frame")
            )
    assert scores == {}


def test_frames_prompts_and_lookalikes_are_those_that_decided(explained: dict[Path, Explanation]) -> None:
    tobacco = explained[CIGARETTE].top
    assert tobacco
    assert (explained[CIGARETTE].action, tobacco.rule, tobacco.prompt) == (Action.BLOCK, "tobacco", "a cigarette")
    assert tobacco.lookalike
    assert tobacco.lookalike_cosine < tobacco.cosine
    assert explained[SLIDES].frames == 3
    assert {rule.frame for rule in explained[SLIDES].rules} <= {0, 1, 2}
    medication = next(rule for rule in explained[FOX].rules if rule.rule == "medication")
    assert (medication.mode, medication.acts) == (Mode.SHADOW, False)


def test_a_folder_stands_for_the_images_in_it(here: Here, policy_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    (folder / "more").mkdir(parents=True)
    for image, name in ((KNIFE, "b.png"), (FOX, f"more/{FOX.name}")):
        (folder / name).write_bytes(image.read_bytes())
    (folder / ".DS_Store").touch()
    found = here("explain", policy_file, folder, "--json")
    assert found.returncode == 0
    assert [image["image"] for image in json.loads(found.stdout)["images"]] == [
        str(folder / "b.png"),
        str(folder / "more" / FOX.name),
    ]
    as_uri = here("explain", policy_file, f"file://{folder}", "--json")
    assert len(json.loads(as_uri.stdout)["images"]) == 2


def test_explaining_nothing_is_no_success(here: Here, policy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = here("explain", policy_file, tmp_path / "empty")
    assert (empty.returncode, empty.stderr) == (
        2,
        f"error: the folder {str(tmp_path / 'empty')!r} contains no files: name images, or a folder of images\n",
    )
    assert here("explain", policy_file, tmp_path / "none.jpg").returncode == 1
    assert here("explain", policy_file, tmp_path / "none.jpg", KNIFE).returncode == 0


def test_a_large_folder_is_explained_up_to_a_number_and_says_so(
    here: Here, policy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain_module, "MOST_IMAGES", 2)
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(KNIFE.read_bytes())
    found = here("explain", policy_file, tmp_path, "--json")
    assert len(json.loads(found.stdout)["images"]) == 2
    assert f"{tmp_path}: only the folder's first images are explained" in found.stderr


def test_an_image_that_cannot_be_read_is_explained_by_its_error(
    demo: Policy, encoder: Encoder, explained: dict[Path, Explanation], tmp_path: Path
) -> None:
    found = explained[BROKEN]
    assert (found.error_code, found.action, found.rules) == ("unsupported_format", demo.unreadable, ())
    names = ["gone.png", ".", "\udcff.png", "a\0b.png", "https://example.com/a.png", "memory://nowhere/a.png"]
    missing = explain_images(demo, encoder, names, tmp_path)
    assert [one.error_code for one in missing] == [ErrorCode.NOT_FOUND] * len(names)
    assert explain_images(demo, encoder, []) == ()


def two_prompts(**rule: object) -> CompiledPolicy:
    """A policy of one rule with orthogonal texts: `near` is the first axis, `x` the third, `y` the fourth."""
    policy = make_policy({"prompts": ["near", "far"], **rule}, contrast=["x", "y"])
    texts = [*policy.contrast, *policy.rules[0].prompts]
    axis = {"near": 0, "far": 1, "x": 2, "y": 3}
    weights = np.eye(4)[[axis[text] for text in texts]]
    return CompiledPolicy(policy, weights, logit_scale=1.0, logit_bias=0.0)


def vectors(*rows: list[float]) -> np.ndarray:
    return np.array([np.array(row) / np.linalg.norm(row) for row in rows], np.float16)


def test_the_frame_with_the_highest_score_is_explained_with_its_own_lookalike() -> None:
    compiled = two_prompts()
    found = explain(compiled, vectors([0, 1, 3, 0], [3, 0, 0, 1], [3, 0, 0, 1]), [0, 4, 9], uri="u", frame_count=10)
    (rule,) = found.rules
    assert (rule.frame, rule.prompt, rule.lookalike) == (4, "near", "y")
    assert (rule.cosine, rule.lookalike_cosine) == pytest.approx((0.9487, 0.3162), abs=1e-3)
    assert rule.score == compiled.score(vectors([3, 0, 0, 1])).score[0, 0]
    with pytest.raises(ValueError, match="one embedding per frame"):
        explain(compiled, vectors([1, 0, 0, 0]), [0, 1], uri="u")


@pytest.mark.parametrize("kind", ["similarity", "sigmoid"])
def test_scores_that_contrast_with_nothing_have_no_lookalike(kind: str) -> None:
    (rule,) = explain(two_prompts(score=kind), vectors([1, 0, 1, 0]), [0], uri="u").rules
    assert (rule.lookalike, rule.lookalike_cosine) == (None, None)


@pytest.mark.parametrize(
    ("score", "review", "block", "action", "told"),
    [
        (0.86, 0.6, 0.9, "review", "0.04 below block"),
        (0.48, 0.6, 0.9, "allow", "0.12 below review"),
        (0.72, 0.6, None, "review", "0.12 above review"),
        (0.95, 0.6, 0.9, "block", "0.05 above block"),
        (0.9, 0.6, 0.9, "block", "at block"),
        (0.6, 0.6, 0.9, "review", "at review"),
        (0.5, None, 0.9, "allow", "0.40 below block"),
        (0.597, 0.6, 0.9, "allow", "0.003 below review"),
        (0.59999, 0.6, 0.9, "allow", "just below review"),
        (0.4, 0.5, 0.5, "allow", "0.10 below block"),
        (-0.2, 0.1, None, "allow", "0.30 below review"),
        (0.4, None, None, "allow", ""),
    ],
)
def test_distances_to_thresholds_are_given_in_words(
    score: float, review: float | None, block: float | None, action: str, told: str
) -> None:
    assert distance(float(np.float32(score)), review, block, Action(action)) == told


# examples


def example(expect: object, image: str = "a.jpg") -> Example:
    return Example.model_validate({"image": image, "expect": expect})


@pytest.mark.parametrize(
    ("expect", "verdict", "found"),
    [
        ("block", "pass", "block"),
        ("review", "miss", "block"),
        ({"weapons": "block"}, "pass", "weapons: block"),
        ({"weapons": "block", "tobacco": "review"}, "miss", "weapons: block, tobacco: allow"),
    ],
)
def test_examples_are_judged_by_image_and_by_rule(
    explained: dict[Path, Explanation], expect: object, verdict: str, found: str
) -> None:
    (result,) = judge([example(expect)], [explained[KNIFE]])
    assert (result.verdict, result.found) == (verdict, found)
    assert ("scored" in result.why) == (verdict == "miss")


@pytest.mark.parametrize(
    ("code", "expect", "verdict"),
    [
        ("corrupt", "review", "pass"),
        ("corrupt", "block", "miss"),
        ("corrupt", {"r0": "allow"}, "error"),
        ("not_found", "review", "error"),
    ],
)
def test_an_example_that_cannot_be_read_passes_only_if_that_was_expected(code: str, expect: object, verdict: str) -> None:
    found = unreadable(make_policy({}), "u", code, "why")
    (result,) = judge([example(expect)], [found])
    assert (result.verdict, code in result.found) == (verdict, True)


def test_precision_and_recall_count_what_says_something_about_the_rule() -> None:
    compiled = two_prompts(id="knives", review=0.4, score="similarity")
    seen = {name: explain(compiled, vectors([x, 0, 1, 0]), [0], uri=name) for name, x in (("yes", 2), ("no", 0.1))}
    cases = [
        (example({"knives": "review"}), "yes"),  # rightly flagged
        (example({"knives": "block"}), "no"),  # missed
        (example("allow"), "yes"),  # wrongly flagged
        (example("allow"), "no"),  # rightly left alone
        (example("review"), "yes"),  # by which rule is not said
    ]
    (found,) = accuracy(compiled.policy, [case for case, _ in cases], [seen[name] for _, name in cases])
    counts = (found.true_positives, found.false_negatives, found.false_positives, found.true_negatives)
    assert counts == (1, 1, 1, 1)
    assert (found.precision, found.recall, found.examples) == (0.5, 0.5, 4)
    (empty,) = accuracy(compiled.policy, [], [])
    assert (empty.precision, empty.recall) == (None, None)


def test_junit_is_xml_whatever_an_image_is_called(explained: dict[Path, Explanation], demo: Policy) -> None:
    results = judge([example("allow", HOSTILE), example("block")], [explained[KNIFE], explained[KNIFE]])
    root = ElementTree.fromstring(junit_xml(demo, results))  # noqa: S314
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    case, passed = root.iter("testcase")
    assert case.get("name", "").startswith("<img src=x onerror")
    assert "expected allow; got block" in (case[0].get("message") or "")
    assert len(passed) == 0


# the page


def test_the_page_shows_hostile_names_harmlessly(demo: Policy, explained: dict[Path, Explanation]) -> None:
    named = [(HOSTILE, dataclasses.replace(found, uri=f"file:///{HOSTILE}")) for found in explained.values()]
    html = page.render(demo, "demo", "0123", named, {})
    assert html.count("&lt;img src=x onerror=alert(1)&gt;‹U+202E›gpj.␛[31m␊[bold]") == len(named)
    assert "<img" not in html
    assert not set("\u202e\x1b") & set(html)
    assert "<script" not in html
    assert "default-src 'none'" in html
    assert "unreadable: review" in html


def test_the_nearest_exemplar_and_the_nearest_other_image_are_named_and_shown(
    demo: Policy, explained: dict[Path, Explanation]
) -> None:
    tools = next(rule for rule in explained[FOX].rules if rule.rule == "tools")
    liked = {one.name: one.sha256 for one in demo.assets.exemplars["tools"].like}
    assert liked[tools.prompt] == tools.prompt_sha256
    assert (tools.lookalike, round(tools.lookalike_cosine or 0, 2)) == (f"demo://listings/{FOX.name}", 1.0)
    assert tools.lookalike_sha256 in {one.sha256 for one in demo.assets.background}
    html = page.explanation_page(demo, "demo", "0123", [("fox.png", explained[FOX])])
    assert f"Nearest exemplar: <bdi>{tools.prompt}</bdi>" in html
    assert f"nearest other image: <bdi>demo://listings/{FOX.name}</bdi>" in html
    assert html.count('<div class="exemplars">') == 1
    assert html.count("data:image/jpeg") == 3
    assert "Show the nearest exemplar of tools clearly" in html


def test_bars_stand_where_scores_and_thresholds_are(demo: Policy, explained: dict[Path, Explanation]) -> None:
    html = page.explanation_page(demo, "demo", "0123", [("knife.png", explained[KNIFE])])
    top = explained[KNIFE].top
    assert top
    assert f'<i style="width: {100 * top.score:.2f}%"></i>' in html
    assert f'<b class="block" style="left: {100 * top.block:.2f}%"></b>' in html
    assert html.count('src="data:image/jpeg;base64,') == 3  # the image, and the two exemplars that it is nearest to
    assert not re.search(r'(src|href)="(?!data:)', html)
    similar = explain(two_prompts(score="similarity", review=-0.1, block=0.3), vectors([-1, -1, 0, 0]), [0], uri="u")
    for left in re.findall(r"(?:width|left): ([-\d.]+)%", page.render(demo, "demo", "0123", [("u", similar)], {})):
        assert 0 <= float(left) <= 100


# the JSON Schema


def keys_of(node: object) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield from node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ()
        for value in node.values():
            yield from keys_of(value)


def test_the_schema_is_valid_describes_every_key_and_is_the_one_in_the_repository() -> None:
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$schema"].endswith("2020-12/schema")
    assert [name for name, key in keys_of(found) if not key.get("description")] == []
    assert all(kind["additionalProperties"] is False for kind in found["$defs"].values() if kind["type"] == "object")
    stored = json.loads((ROOT / "policies" / "policy.schema.json").read_text())
    assert stored == found, "run: moderate policy schema > policies/policy.schema.json"


def test_the_schema_accepts_the_policies_and_rejects_what_the_language_rejects(copy: Callable[..., Path]) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    others = {ROOT / "policies" / name for name in ("quality.yaml", "queues.yaml", "actions.yaml")}
    for path in (POLICY_FILE, *sorted(set((ROOT / "policies").glob("*.yaml")) - others)):
        assert [e.message for e in validator.iter_errors(as_data(path))] == [], path.name
    rule = as_data(POLICY_FILE)["rules"][0]
    wrong = [
        {"treshold": 0.5},
        {"rules": []},
        {"rules": [{**rule, "reviw": 0.5}]},
        {"rules": [{**rule, "mode": "on"}]},
        {"rules": [{**rule, "review": "high"}]},
        {"rules": [{**rule, "block": 1.5}]},
        {"rules": [{**rule, "id": "Fire Arms"}]},
        {"examples": [{"image": "a.jpg", "expect": "blocked"}]},
        {"examples": [{"image": "a.jpg", "expect": {"Fire Arms": "block"}}]},
    ]
    for keys in wrong:
        path = copy(**keys)
        with pytest.raises(PolicyError):
            load_policy(path)
        assert not validator.is_valid(as_data(path)), keys
    assert validator.is_valid({"include": "base.yaml", "overrides": {"weapons": {"mode": "shadow", "block": None}}})
    assert not validator.is_valid({"include": "base.yaml", "overrides": {"weapons": {"prompts": ["a knife"]}}})
    assert not validator.is_valid({"policy": "without-rules", "model": {"name": "demo"}})


# the commands


def test_explain_prints_scores_and_thresholds_for_people(policy_file: Path, tmp_path: Path) -> None:
    hostile = tmp_path / HOSTILE.replace("/", "").replace("\n", "")
    shutil.copy(CIGARETTE, hostile)
    found = moderate("explain", policy_file, hostile, BROKEN, "--html", tmp_path / "page.html")
    assert found.returncode == 0, found.stderr
    assert ": block (tobacco, " in found.stdout
    assert "above block" in found.stdout
    assert "a cigarette" in found.stdout
    assert "unsupported_format" in found.stdout
    assert "‹U+202E›gpj.␛[31m[bold]" in found.stdout
    assert not set("\u202e\x1b") & set(found.stdout + found.stderr)
    assert max(map(len, [line for line in found.stdout.splitlines() if "/" not in line])) <= 120
    html = (tmp_path / "page.html").read_text()
    assert html.count('src="data:image/jpeg;base64,') == 3  # the image, and the two exemplars that it is nearest to
    assert str(tmp_path / "page.html") in found.stderr


def test_explain_as_json_is_for_programs(here: Here, policy_file: Path) -> None:
    found = here("explain", policy_file, KNIFE, "--json")
    assert (found.returncode, found.stderr) == (0, "")
    told = json.loads(found.stdout)
    assert told["hash"] == load_policy(policy_file).hash
    (image,) = told["images"]
    assert (image["image"], image["action"], image["top_rule"]) == (str(KNIFE), "block", "weapons")
    assert {"score", "review", "block", "distance", "prompt", "cosine", "lookalike", "frame"} <= set(image["rules"][0])


def test_policy_test_says_which_examples_pass_and_fail(here: Here, copy: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copy(KNIFE, tmp_path / "knife.png")
    right = [{"image": "knife.png", "expect": {"weapons": "block", "tobacco": "allow"}}, {"image": str(FOX), "expect": "allow"}]
    passed = here("test", copy(examples=right))
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "pass  knife.png: weapons: block, tobacco: allow" in passed.stdout
    assert "2 of 2 examples passed" in passed.stdout

    wrong = [*right, {"image": CIGARETTE.as_uri(), "expect": "allow"}, {"image": "gone.png", "expect": "review"}]
    missed = here("test", copy(examples=wrong), "--junit", tmp_path / "junit.xml")
    assert missed.returncode == 1
    assert re.search(r"MISS  file://\S+cigarette.webp: expected allow; got block \(tobacco scored 0\.\d+", missed.stdout)
    assert "ERROR gone.png: expected review; got not_found" in missed.stdout
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()  # noqa: S314
    assert [root.get(key) for key in ("tests", "failures", "errors")] == ["4", "1", "1"]
    assert [case.get("name") for case in root.iter("testcase") if len(case)] == [CIGARETTE.as_uri(), "gone.png"]


def test_show_diff_schema_and_a_test_without_examples_need_no_model(
    here: Here, policy_file: Path, copy: Callable[..., Path]
) -> None:
    other = copy(owner="others")
    shown = here("show", POLICY_FILE)
    assert shown.returncode == 0
    for text in ("weapons", "crossed swords", "review 0.", "shadow", "trust-and-safety", load_policy(POLICY_FILE).hash):
        assert text in shown.stdout
    empty = here("test", copy("empty.yaml", examples=[]))
    assert (empty.returncode, "has no examples" in empty.stdout) == (0, True)
    told = here("diff", policy_file, other)
    assert (told.returncode, "~ owner: trust-and-safety → others" in told.stdout) == (0, True)
    assert "changes no decision" in told.stdout
    as_json = json.loads(here("diff", policy_file, other, "--json").stdout)
    assert (as_json["same_hash"], [change["key"] for change in as_json["changes"]]) == (False, ["owner"])
    assert json.loads(here("schema").stdout) == schema()


def test_mistakes_are_one_line_and_exit_code_2(here: Here, copy: Callable[..., Path], tmp_path: Path) -> None:
    gone = here("show", tmp_path / "gone.yaml")
    assert (gone.returncode, gone.stdout) == (2, "")
    assert re.fullmatch(r"error: cannot read the policy '.*gone.yaml': no such file or directory\n", gone.stderr)
    unwritable = here("test", copy(examples=[]), "--junit", tmp_path / "no" / "junit.xml")
    assert (unwritable.returncode, unwritable.stderr.count("\n")) == (2, 1)
    assert "cannot write" in unwritable.stderr
    model = here("explain", copy(model={"name": "ViT-B-23", "pretrained": "x"}), FOX)
    assert model.returncode == 2
    assert re.match(r"error: .*copy\.yaml:\d+:\d+: unknown model", model.stderr), model.stderr
    assert "Traceback" not in model.stderr
