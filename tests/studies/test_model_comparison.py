"""Comparing two models: the sample, agreement, thresholds for the other model, what is said about them, and the page."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import OVERFLOW, PAYLOADS, Browser, Recorder, a_thumbnail
from hypothesis import given, settings
from hypothesis import strategies as st
from needs import needs_chromium
from report_pages import Page
from support import make_policy

from moderation import ModelError
from moderation.policy.schema import Policy, Rule
from moderation.records import ObjectRef
from moderation.sources import open_sources
from moderation.studies.model_comparison.agreement import agreement, rank_correlation
from moderation.studies.model_comparison.choice import model_choice
from moderation.studies.model_comparison.comparison_page import render
from moderation.studies.model_comparison.comparison_result import ModelComparison, Side, changed
from moderation.studies.model_comparison.comparison_text import about, notes
from moderation.studies.model_comparison.object_sample import SampledObjects, sample_objects
from moderation.studies.model_comparison.refitting import FEW, Labels, fit_flag_rate, fit_precision, fitted_rule
from moderation.studies.model_comparison.rule_comparison import Scored, compare_rules

SOURCE = "s3://bucket/uploads"


def floats(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def rule(**keys: object) -> Rule:
    return make_policy({"score": "contrast", **keys}).rules[0]


class TestChoice:
    @pytest.mark.parametrize(
        ("text", "name", "pretrained"),
        [
            ("demo", "demo", None),
            ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32", "laion2b_s34b_b79k"),
            ("ViT-B-32/models/mine.safetensors", "ViT-B-32", "models/mine.safetensors"),
            ("ViT-B-32//models/mine.safetensors", "ViT-B-32", "/models/mine.safetensors"),
            ("hf-hub:org/repo", "hf-hub:org/repo", None),
            ("local-dir:/models/mine", "local-dir:/models/mine", None),
        ],
    )
    def test_a_name_with_or_without_weights(self, text: str, name: str, pretrained: str | None) -> None:
        found = model_choice(text)
        assert (found.name, found.pretrained) == (name, pretrained)

    def test_paths_are_relative_to_the_current_folder_and_those_of_a_policy_to_its_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = "{name: ViT-B-32, pretrained: w/mine.pt, preprocess: openai}"
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "new.yaml").write_text(
            f"policy: p\nmodel: {model}\ncontrast: [x]\nrules: [{{id: a, prompts: [b], review: 0.5}}]\n"
        )
        monkeypatch.chdir(tmp_path)
        assert model_choice("ViT-B-32/w/mine.pt").checkpoint == tmp_path / "w" / "mine.pt"
        assert model_choice("local-dir:tiny").local_dir == tmp_path / "tiny"
        chosen = model_choice("policies/new.yaml")
        assert chosen.checkpoint == tmp_path / "policies" / "w" / "mine.pt"
        assert chosen.described == "ViT-B-32/w/mine.pt (preprocess openai)"

    @pytest.mark.parametrize("text", ["", "/x", "ViT-B-32/", "  "])
    def test_what_names_nothing_is_refused(self, text: str) -> None:
        with pytest.raises(ModelError, match="is not a model: write demo"):
            model_choice(text)


class TestSampling:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in range(300):
            path = tmp_path / "images" / f"{number % 7}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * number)
        return tmp_path / "images"

    def drawn(self, location: Path | str, count: int, seed: int = 0, wanted: frozenset[str] = frozenset()) -> SampledObjects:
        return sample_objects(open_sources([str(location)], 4), count, seed, wanted)

    def uris(self, found: SampledObjects) -> set[str]:
        return {item.uri for item, taken in zip(found.objects, found.in_sample, strict=True) if taken}

    def test_the_seed_chooses_and_nothing_else(self, folder: Path, tmp_path: Path) -> None:
        found = self.drawn(folder, 50)
        assert len(found.objects) == 50
        assert found.listed == 300
        assert found.in_sample.all()
        assert self.uris(self.drawn(folder, 50)) == self.uris(found)
        assert len(self.uris(self.drawn(folder, 50, seed=1)) & self.uris(found)) < 25
        backwards = sorted((f"file://{path}" for path in folder.rglob("*.jpg")), reverse=True)
        manifest = tmp_path / "list.csv"
        manifest.write_text("\n".join(["uri", *backwards, *backwards[:100]]) + "\n")
        again = self.drawn(manifest, 50)
        assert self.uris(again) == self.uris(found), "another order, and some twice"
        assert (len(again.objects), again.listed) == (50, 400)

    def test_a_smaller_sample_is_part_of_a_larger_one(self, folder: Path) -> None:
        assert self.uris(self.drawn(folder, 20)) < self.uris(self.drawn(folder, 60))

    def test_a_sample_larger_than_the_source_is_the_whole_source(self, folder: Path) -> None:
        assert len(self.drawn(folder, 5000).objects) == 300

    def test_wanted_objects_come_beside_the_sample(self, folder: Path) -> None:
        everything = self.uris(self.drawn(folder, 300))
        sample = self.uris(self.drawn(folder, 30))
        outside, inside = min(everything - sample), min(sample)
        found = self.drawn(folder, 30, wanted=frozenset({outside, inside, "file:///nowhere.jpg"}))
        assert len(found.objects) == 31
        assert self.uris(found) == sample

    def test_every_object_has_the_same_chance(self, folder: Path) -> None:
        counts = dict.fromkeys(self.uris(self.drawn(folder, 300)), 0)
        sources = open_sources([str(folder)], 4)
        for seed in range(200):
            for item in sample_objects(sources, 30, seed).objects:
                counts[item.uri] += 1
        found = np.array(list(counts.values()))  # binomial of 200 and 0.1: 20, give or take 4.2
        assert found.mean() == 20
        assert found.min() >= 5
        assert found.max() <= 40


class TestAgreement:
    def test_kappa_of_a_textbook_table(self) -> None:
        a = np.repeat([0, 0, 2, 2], [20, 5, 10, 15]).astype(np.int8)
        b = np.repeat([0, 2, 0, 2], [20, 5, 10, 15]).astype(np.int8)
        found = agreement(a, b)
        assert found.share == 0.7
        assert found.kappa == pytest.approx(0.4)

    def test_of_one_and_the_same_answer_there_is_no_kappa(self) -> None:
        zeros = np.zeros(5, np.int8)
        assert agreement(zeros, zeros).kappa is None
        assert agreement(zeros, zeros).share == 1
        assert agreement(zeros, zeros + 1).kappa == 0

    def test_rank_correlation_depends_on_order_and_not_on_scale(self) -> None:
        a = floats(0.1, 0.2, 0.3, 0.9)
        assert rank_correlation(a, a**3) == pytest.approx(1.0)
        assert rank_correlation(a, -a) == pytest.approx(-1.0)
        assert rank_correlation(a, floats(0.5, 0.5, 0.5, 0.5)) is None
        assert rank_correlation(a[:1], a[:1]) is None


SCORES = st.integers(0, 1000).map(lambda n: n / 1000)


class TestFlagRate:
    @settings(deadline=None)
    @given(
        st.lists(SCORES, min_size=1, max_size=60, unique=True),
        st.lists(SCORES, min_size=1, max_size=60, unique=True),
        SCORES,
        SCORES,
    )
    def test_as_many_images_reach_the_new_threshold(self, a: list[float], b: list[float], one: float, other: float) -> None:
        count = min(len(a), len(b))
        a_scores, b_scores = floats(*a[:count]), floats(*b[:count])
        asked = rule(review=min(one, other), block=max(one, other))
        found = fit_flag_rate(asked, a_scores, b_scores)
        assert [threshold.kind for threshold in found] == ["review", "block"]
        for threshold, now in zip(found, (asked.review, asked.block), strict=True):
            assert threshold.now == now
            assert threshold.reached_a == (a_scores >= np.float32(now)).sum()
            if 0 < threshold.reached_a < count:
                assert threshold.fitted is not None
                assert threshold.reached_fitted == threshold.reached_a == (b_scores >= np.float32(threshold.fitted)).sum()
            else:
                assert threshold.fitted is None
                assert threshold.note
        review, block = (threshold.fitted for threshold in found)
        if review is not None and block is not None:
            assert 0 <= review <= block <= 1

    def test_the_same_scores_keep_their_thresholds(self) -> None:
        scores = floats(0.1, 0.2, 0.65, 0.95)
        asked = rule(review=0.4, block=0.8)
        assert [one.fitted for one in fit_flag_rate(asked, scores, scores)] == [0.4, 0.8]

    def test_two_thresholds_in_one_gap_stay_apart(self) -> None:
        asked = rule(review=0.4, block=0.5)
        review, block = fit_flag_rate(asked, floats(0.1, 0.2, 0.9), floats(0.01, 0.02, 0.2))
        assert review.fitted == 0.08
        assert block.fitted == 0.14
        assert review.note == "based on 1 image"

    def test_equal_scores_are_not_parted(self) -> None:
        b = floats(0.1, *([0.3] * 9))
        found = fit_flag_rate(rule(review=0.5), floats(*([0.1] * 8), 0.6, 0.7), b)[0]
        assert found.fitted is None
        assert "are equal" in found.note

    def test_many_images_need_no_warning(self) -> None:
        rng = np.random.default_rng(0)
        a = rng.random(1000).astype(np.float32)
        found = fit_flag_rate(rule(review=0.9), a, a / 2)[0]
        assert found.reached_a > FEW
        assert found.note == ""
        assert found.fitted == pytest.approx(0.45, abs=0.001)

    def test_what_no_image_reaches_under_a_none_reaches_under_b(self) -> None:
        asked = rule(review=0.5, block=0.9)
        found = fit_flag_rate(asked, floats(0.1, 0.6, 0.2), floats(0.95, 0.1, 0.92))
        fitted = fitted_rule(asked, found)
        assert (fitted.block, found[1].fitted) == (None, None)
        assert fitted.review == found[0].fitted


class TestPrecision:
    def labels(self, *truth: int, weight: float = 1.0) -> Labels:
        return Labels(np.arange(len(truth)), np.array(truth, np.bool_), np.full(len(truth), weight))

    def test_the_lowest_threshold_that_is_as_right(self) -> None:
        a = floats(0.9, 0.8, 0.7, 0.2, 0.1, 0.05)
        b = floats(0.5, 0.4, 0.3, 0.35, 0.45, 0.01)
        labels = self.labels(1, 1, 0, 1, 1, 0)
        found = fit_precision(rule(review=0.5), a, b, labels)[0]  # A is right in 2 of 3; B is in 4 of 5, and in 4 of 6
        assert found.fitted == 0.005
        assert "based on 6 labels" in found.note
        found = fit_precision(rule(review=0.75), a, b, labels)[0]  # A is right in 2 of 2; B in the first 4
        assert found.fitted is not None
        assert 0.3 < found.fitted <= 0.35

    def test_label_weights_count_in_refitting(self) -> None:
        a, b = floats(0.9, 0.8, 0.1), floats(0.9, 0.8, 0.1)
        truth = np.array([True, False, False])
        light = Labels(np.arange(3), truth, np.array([9.0, 1.0, 1.0]))
        assert fit_precision(rule(review=0.85), a, b, light)[0].fitted == 0.85
        assert fit_precision(rule(review=0.5), a, b, light)[0].fitted == 0.5

    def test_unknown_and_unreachable_precision_are_reported(self) -> None:
        a, b = floats(0.9, 0.1), floats(0.1, 0.9)
        assert "no precision to keep" in fit_precision(rule(review=0.95), a, b, self.labels(1, 0))[0].note
        found = fit_precision(rule(review=0.5), a, b, self.labels(1, 0))[0]
        assert found.fitted is None
        assert "the precision of A's, 100%" in found.note

    def test_block_never_lies_below_review(self) -> None:
        a = floats(0.95, 0.92, 0.6, 0.55, 0.1)
        b = floats(0.9, 0.8, 0.7, 0.6, 0.5)
        review, block = fit_precision(rule(review=0.5, block=0.9), a, b, self.labels(0, 1, 1, 1, 0))
        assert review.fitted is not None
        assert block.fitted is not None
        assert review.fitted <= block.fitted


def objects(count: int, name: str = "image") -> list[ObjectRef]:
    from datetime import UTC, datetime

    return [ObjectRef(f"{SOURCE}/{name} {i}.jpg", "1", 10, datetime(2026, 11, 21, tzinfo=UTC)) for i in range(count)]


POLICY = make_policy(
    {"id": "guns", "review": 0.4, "block": 0.8, "severity": "critical"},
    {"id": "beer", "review": 0.5, "mode": "shadow"},
)


def compared(policy: Policy, a: Any, b: Any, name: str = "image") -> ModelComparison:
    """A comparison of these scores [N, R]."""
    count = len(a)
    all_of_them = np.ones(count, np.bool_)
    found = compare_rules(policy, Scored(objects(count, name), a, b, np.zeros(a.shape, np.int32), all_of_them, all_of_them))
    whole = ModelComparison(
        policy="test 0 (x)",
        a=Side("demo", "a" * 16, 64, 64, 1.0),
        b=Side("other", "b" * 16, 512, 224, 2.0),
        hold="flag-rate",
        sources=(SOURCE,),
        seed=0,
        asked=500,
        listed=1000,
        taken=count + 3,
        images=count,
        unreadable={"corrupt": 2, "not_found": 1},
        labelled=0,
        rules=found.rules,
        actions=found.actions,
        actions_fitted=found.actions_fitted,
        summary=(),
    )
    return replace(whole, summary=about(whole))


def some_scores(seed: int = 0, count: int = 400) -> tuple[Any, Any]:
    """Of two models that order images nearly alike, on another scale."""
    rng = np.random.default_rng(seed)
    a = rng.random((count, 2)).astype(np.float32)
    b = np.clip(a**3 + rng.normal(0, 0.02, a.shape), 0, 1).astype(np.float32)
    return a, b


class TestRules:
    def test_thresholds_for_b_bring_agreement_back(self) -> None:
        found = compared(POLICY, *some_scores())
        guns, beer = found.rules
        assert guns.agreement.share < 0.8
        assert guns.agreement_fitted.share > 0.9
        assert guns.flagged_b < guns.flagged_a == guns.flagged_fitted
        assert guns.blocked_a == guns.blocked_fitted
        assert guns.spearman is not None
        assert guns.spearman > 0.9
        assert guns.both <= guns.flagged_a
        assert changed(found.actions_fitted) < changed(found.actions)
        assert sum(found.actions.values()) == sum(found.actions_fitted.values()) == 400
        assert (guns.thresholds[0].fitted or 1) < 0.1
        assert beer.mode == "shadow"

    def test_shadow_rules_do_not_decide_images(self) -> None:
        a, b = some_scores()
        b[:, 0] = a[:, 0]
        found = compared(POLICY, a, b)
        assert changed(found.actions) == 0
        assert found.rules[1].agreement.share < 1

    def test_the_worst_disagreements_come_first(self) -> None:
        a, b = some_scores()
        a[7, 0], b[7, 0] = 0.99, 0.0
        found = compared(POLICY, a, b).rules[0].disagreements
        assert found[0].uri == f"{SOURCE}/image 7.jpg"
        assert (found[0].action_a, found[0].action_b, found[0].action_fitted) == ("block", "allow", "allow")
        assert len(found) == 12
        steps = {"allow": 0, "review": 1, "block": 2}
        gaps = [abs(steps[one.action_a] - steps[one.action_fitted]) for one in found]
        assert gaps == sorted(gaps, reverse=True)
        assert all(one.action_a != one.action_b or one.action_a != one.action_fitted for one in found)

    def test_images_on_a_restricted_list_are_counted_and_not_shown(self) -> None:
        a, b = some_scores()
        every, shown = np.ones(400, np.bool_), np.arange(400) % 2 == 0
        scored = Scored(objects(400), a, b, np.zeros(a.shape, np.int32), every, shown)
        found, all_shown = compare_rules(POLICY, scored), compare_rules(POLICY, replace(scored, shown=every))
        numbers = {f"{SOURCE}/image {n}.jpg" for n in np.flatnonzero(shown)}
        assert {one.uri for rule in found.rules for one in rule.disagreements} <= numbers
        assert not {one.uri for rule in all_shown.rules for one in rule.disagreements} <= numbers
        assert (found.actions, found.rules[0].agreement) == (all_shown.actions, all_shown.rules[0].agreement)

    def test_images_outside_the_sample_are_not_counted(self) -> None:
        a, b = some_scores()
        in_sample = np.arange(400) < 100
        labels = {rule.id: Labels(np.arange(400), a[:, r] > 0.6, np.ones(400)) for r, rule in enumerate(POLICY.active_rules)}
        found = compare_rules(POLICY, Scored(objects(400), a, b, np.zeros(a.shape, np.int32), in_sample, in_sample), labels)
        assert sum(found.actions.values()) == 100
        guns = found.rules[0]
        assert guns.thresholds[0].reached_a == (a[:100, 0] >= np.float32(0.4)).sum() == guns.flagged_a
        assert guns.thresholds[0].fitted is not None
        assert guns.flagged_fitted == guns.thresholds[0].reached_fitted


class TestWords:
    def test_suggested_thresholds_say_what_would_change(self) -> None:
        found = compared(POLICY, *some_scores())
        now, fitted, *_ = found.summary
        assert now.startswith("With the thresholds as they are, B decides ")
        assert "of 400 images differently" in now
        assert fitted.startswith("With thresholds for B, B decides ")
        guns = found.rules[0]
        assert f"A flags {guns.flagged_a} of 400 images, B {guns.flagged_b} with the same thresholds." in guns.summary
        assert guns.summary.endswith("Both models agree on this rule.")
        assert notes(found) == (
            "There are fewer images than the requested 500: 403.",
            "3 of the 403 sampled objects could not be scored and are skipped: corrupt 2, not_found 1.",
        )

    def test_rules_that_would_flag_many_more_or_fewer_are_named(self) -> None:
        a, b = some_scores()
        assert any("less than half as many images: guns" in line for line in compared(POLICY, a, b**4).summary)
        assert any("more than twice as many images: guns" in line for line in compared(POLICY, a**6, a).summary)

    def test_models_that_disagree_are_reported(self) -> None:
        rng = np.random.default_rng(0)
        found = compared(POLICY, some_scores()[0], rng.random((400, 2)).astype(np.float32))
        assert (
            "The models disagree on this rule" in found.rules[0].summary or found.rules[0].both > 0.6 * found.rules[0].flagged_a
        )

    def test_a_rule_that_flags_nothing_is_reported(self) -> None:
        quiet = np.full((50, 2), 0.01, np.float32)
        found = compared(POLICY, quiet, quiet + np.float32(0.01))
        assert "Neither model flags any of these 50 images" in found.rules[0].summary
        assert any("do not determine all thresholds for B of: guns" in line for line in found.summary)
        assert found.summary[0] == "With the thresholds as they are, B decides all 50 images as A does."

    def test_one_model_under_two_names_is_said(self) -> None:
        a, _ = some_scores()
        found = compared(POLICY, a, a)
        found = replace(found, b=replace(found.b, fingerprint=found.a.fingerprint))
        assert about(found)[0].startswith("A and B are the same model")


def a_page(name: str = "image") -> str:
    found = compared(POLICY, *some_scores(), name)
    found = replace(found, a=replace(found.a, name=f"ViT/{name}"), policy=f"test {name} (x)", sources=(f"{SOURCE}/{name}",))
    images = [one for rule in found.rules for one in rule.disagreements]
    return render(found, {(one.uri, one.frame): a_thumbnail() for one in images[::2]})


class TestPage:
    def test_the_page_has_every_part_of_the_comparison(self) -> None:
        page = Page(a_page())
        text = " ".join(page.text.split())
        assert "What moving from model A to model B would change" in text
        assert "Both models agree on this rule." in text
        assert "3 of the 403 sampled objects could not be scored" in text
        assert len(page.named("img")) == 12
        [policy] = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert not page.named("script")
        assert len([one for one in page.named("label") if "sealed" in one["class"]]) == 6, "of the critical rule"

    @pytest.mark.parametrize("name", list(PAYLOADS.values()), ids=list(PAYLOADS))
    def test_hostile_names_stay_text(self, name: str) -> None:
        page = Page(a_page(name))
        assert not page.named("script")
        assert not page.named("iframe")
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
        assert all(image["src"].startswith("data:image/jpeg;base64,") for image in page.named("img"))

    @needs_chromium
    @pytest.mark.parametrize("width", [1280, 390, 320])
    def test_in_a_browser_nothing_runs_leaves_or_overflows(
        self, browser: Browser, recorder: Recorder, tmp_path: Path, width: int
    ) -> None:
        recorder.asked.clear()
        for number, name in enumerate(["image", *PAYLOADS.values()]):
            path = tmp_path / f"{number}.html"
            path.write_bytes(a_page(name).encode())
            browser.open(path, width)
            assert browser.ask("document.title").startswith("Two models compared"), name
            assert browser.ask(OVERFLOW) <= 0, name
            assert browser.requested == set(), name
            assert browser.complaints == [], name
            assert "blur" in browser.blur(".picture img")
        assert not [asked for asked in recorder.asked if "example" in asked]
