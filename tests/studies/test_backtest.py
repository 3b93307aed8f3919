"""A backtest says exactly what a full run under the new policy would: of every image, from embeddings alone."""

import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archived import (
    FIRST,
    HOSTILE,
    MODEL,
    NEW,
    OLD,
    OTHER_MODEL,
    SECOND,
    THIRD,
    Image,
    Run,
    compiled,
    replaced,
    some_images,
    write_runs,
)
from poisoned import head as stub_head
from stub_run import stub_run
from support import make_policy

from moderation import OutputError, RunSettings, SettingsError, Store
from moderation.policy.compiled import CompiledPolicy, prompt_texts
from moderation.policy.schema import Mode, Policy
from moderation.policy_files.loading import load_policy
from moderation.query.condition import Condition
from moderation.results import schemas
from moderation.results.archive import Archive, open_archive
from moderation.results.manifest import published_manifests
from moderation.results.read_run import read_decisions
from moderation.studies.backtest import changed_images, folders, shard_backtest, shown_images
from moderation.studies.backtest.backtest_result import OTHER, Actions, Backtest
from moderation.studies.backtest.backtesting import backtest
from moderation.studies.backtest.change_budget import Budget
from moderation.studies.backtest.counting import Total, before_after

ORDER = ("allow", "review", "block")
IMAGES = some_images(400, seed=1)
AGAIN = replaced(IMAGES[:150], seed=2)
"""Objects that the second run found replaced; some were broken and are no more, or the other way round."""
NEWEST = {image.ref.uri: image for image in (*IMAGES, *AGAIN)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two runs under the old policy, of which the second took up objects that had changed; and one of another model."""
    output = Store(str(tmp_path_factory.mktemp("backtest") / "results"))
    others = Run(THIRD, OLD, some_images(20, seed=3), fingerprint=OTHER_MODEL, model="other")
    write_runs(output, Run(FIRST, OLD, IMAGES), Run(SECOND, OLD, AGAIN, shards=2), others)
    return output


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Policy], dict[str, dict[str, Any]]]:
    """The decision rows of a full run under a policy, by URI."""

    def rows(policy: Policy) -> dict[str, dict[str, Any]]:
        output = Store(str(tmp_path_factory.mktemp("full") / "results"))
        write_runs(output, Run(THIRD, policy, list(NEWEST.values()), shards=5))
        (manifest,) = published_manifests(output)
        return {row["uri"]: row for row in read_decisions(output, manifest).to_pylist()}

    return rows


def archive(output: Store, **chosen: Any) -> Archive:
    return open_archive(output, fingerprint=MODEL, **chosen)


def tried(output: Store, policy: Policy, folder: Path, **more: Any) -> tuple[Backtest, dict[str, dict[str, Any]]]:
    path = folder / "changed.parquet"
    found = backtest(compiled(policy), archive(output), path, **more)
    rows = pq.read_table(path).to_pylist()
    assert len({row["uri"] for row in rows}) == len(rows) == found.total.changed
    return found, {row["uri"]: row for row in rows}


def loosened(policy: Policy, **rules: dict[str, Any]) -> Policy:
    changed = [rule.model_copy(update=rules.get(rule.id, {})) for rule in policy.rules]
    return policy.model_copy(update={"rules": tuple(changed)})


# --- the same as a run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_file", [False, True], ids=["against published", "against the same file"])
def test_the_same_policy_changes_nothing(results: Store, tmp_path: Path, by_file: bool) -> None:
    found, changed = tried(results, OLD, tmp_path, old=compiled(OLD) if by_file else None)
    assert changed == {}
    assert found.images == len(NEWEST)
    assert found.errors == sum(image.error is not None for image in NEWEST.values()) > 10
    assert found.total.before == found.total.after
    assert all(count == 0 for (before, after), count in found.transitions.items() if before != after)
    assert all(rule.gained == rule.lost == 0 and rule.before == rule.after for rule in found.rules.values())
    assert sum(rule.before for rule in found.rules.values()) > 50
    assert found.examples == ()


@pytest.mark.parametrize("by_file", [False, True], ids=["against published", "against a file"])
@pytest.mark.parametrize("only_thresholds", [False, True], ids=["another policy", "other thresholds"])
def test_a_backtest_equals_a_full_run_row_by_row(
    results: Store, truth: Callable[[Policy], dict[str, dict[str, Any]]], tmp_path: Path, by_file: bool, only_thresholds: bool
) -> None:
    new = (
        loosened(OLD, firearms={"review": 0.3}, beer={"block": 0.95}, nudity={"mode": Mode.SHADOW}) if only_thresholds else NEW
    )
    before, after = truth(OLD), truth(new)
    found, changed = tried(results, new, tmp_path, old=compiled(OLD) if by_file else None)
    assert set(changed) == {uri for uri in NEWEST if before[uri]["action"] != after[uri]["action"]}
    assert len(changed) > 100
    assert set(HOSTILE) & set(changed)
    for uri, row in changed.items():
        old_row, new_row = before[uri], after[uri]
        assert (row["before"], row["after"]) == (old_row["action"], new_row["action"])
        assert (row["flags_before"], row["flags_after"]) == (old_row["flags"], new_row["flags"])
        acted, acts = old_row["flagged"], new_row["flagged"]
        assert row["rule_before"] == (old_row["top_rule"] if acted else None)
        assert row["rule_after"] == (new_row["top_rule"] if acts else None)
        assert row["near_threshold"] == new_row["near_threshold"]
        assert (row["status"], row["etag"], row["last_modified"]) == tuple(
            new_row[k] for k in ("status", "etag", "last_modified")
        )
        assert row["run_id"] == (SECOND if uri in {image.ref.uri for image in AGAIN} else FIRST)
        assert (row["policy_hash_before"], row["policy_hash_after"]) == (OLD.hash, new.hash)
        if acts:
            assert (row["score"], row["frame"]) == (new_row["top_score"], new_row["frame"])
        if row["score_before"] is not None and row["rule"] == row["rule_before"]:
            assert row["score_before"] == old_row["top_score"]
    would = Counter(flag for row in after.values() for flag in row["shadow_flags"])
    assert {name: rule.would for name, rule in found.rules.items() if rule.would} == would
    for name, rule in found.rules.items():
        assert len(rule.would_flag) == min(rule.would, shown_images.EXAMPLES)
        assert all(name in after[one.uri]["shadow_flags"] and one.after != "allow" for one in rule.would_flag)
        assert [one.score for one in rule.would_flag] == sorted((one.score for one in rule.would_flag), reverse=True)
    for work, rows in zip(found.work, (before, after), strict=True):
        people = [row["status"] for row in rows.values() if row["action"] == "review"]
        assert (work.images, work.unreadable) == (len(people), people.count("error"))
    counted = Counter((before[uri]["action"], after[uri]["action"]) for uri in NEWEST)
    assert {pair: count for pair, count in found.transitions.items() if count} == counted
    for name, rule in found.rules.items():
        had = {uri for uri in NEWEST if name in before[uri]["flags"]}
        has = {uri for uri in NEWEST if name in after[uri]["flags"]}
        assert (rule.before, rule.after) == (len(had), len(has)), name
        assert (rule.gained, rule.lost) == (len(has - had), len(had - has)), name
    for name, groups in (("folder", found.prefixes), ("day", found.days)):
        keys = {uri: _group(name, after[uri]) for uri in NEWEST}
        assert set(groups) == set(keys.values())
        for key, counts in groups.items():
            uris = [uri for uri in NEWEST if keys[uri] == key]
            assert counts.before == _actions(before, uris)
            assert counts.after == _actions(after, uris)
            assert counts.changed == sum(uri in changed for uri in uris)


def _group(name: str, row: dict[str, Any]) -> str:
    return row["uri"].rpartition("/")[0] + "/" if name == "folder" else f"{row['last_modified']:%Y-%m-%d}"


def _actions(rows: dict[str, dict[str, Any]], uris: list[str]) -> Actions:
    return Actions(**Counter(rows[uri]["action"] for uri in uris))


@pytest.mark.usefixtures("ray_cluster")
def test_a_backtest_equals_a_whole_run_through_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(40):
        (tmp_path / f"images/{number:02}.jpg").write_text(f"image {number}")
    (tmp_path / "quality.yaml").write_text("checks:\n  constant_scores: {severity: warn}\n  flag_rate: {severity: warn}\n")
    manifests, policies = {}, {}
    for name, review, block in (("old", 0.5, 0.8), ("new", -0.1, 0.2)):  # most of the images lie between
        rules = "".join(
            f"  - {{id: {rule}, prompts: [a {rule}], score: similarity, review: {review}, block: {block}}}\n" for rule in "xy"
        )
        (tmp_path / f"{name}.yaml").write_text(f"policy: shop\nmodel: {{name: none}}\nrules:\n{rules}")
        policies[name] = load_policy(tmp_path / f"{name}.yaml")
        settings = RunSettings(
            sources=str(tmp_path / "images"),
            policy=str(tmp_path / f"{name}.yaml"),
            output=str(tmp_path / name),
            quality=str(tmp_path / "quality.yaml"),
            shard_size=15,
            batch_size=4,
        )
        manifests[name] = stub_run(settings)
    before, after = (
        {row["uri"]: row for row in read_decisions(Store(str(tmp_path / name)), manifests[name]).to_pylist()}
        for name in ("old", "new")
    )
    ready = CompiledPolicy.build(policies["new"], stub_head(prompt_texts(policies["new"])))
    found = backtest(ready, open_archive(Store(str(tmp_path / "old"))), tmp_path / "changed.parquet")
    changed = {row["uri"]: row for row in pq.read_table(tmp_path / "changed.parquet").to_pylist()}
    assert set(changed) == {uri for uri in after if before[uri]["action"] != after[uri]["action"]}
    assert found.images == 40
    assert len(changed) > 5
    for uri, row in changed.items():
        told = (row["after"], row["flags_after"], row["rule_after"], row["score"], row["near_threshold"])
        assert told == tuple(after[uri][name] for name in ("action", "flags", "top_rule", "top_score", "near_threshold"))


def test_a_backtest_counts_all_nine_pairs_of_actions_and_its_period(results: Store, tmp_path: Path) -> None:
    found, _ = tried(results, NEW, tmp_path)
    assert set(found.transitions) == {(a, b) for a in ORDER for b in ORDER}
    assert found.total == sum(found.days.values(), before_after(np.zeros(9, np.int64)))
    assert (found.first_day, found.last_day, found.days_covered) == ("2026-11-01", "2026-11-09", 9)
    assert list(found.days) == sorted(found.days)
    assert found.new_blocks == sum(found.transitions[a, "block"] for a in ("allow", "review"))
    assert found.new_reviews == sum(found.transitions[a, "review"] for a in ("allow", "block"))
    assert (found.old, found.new) == (f"shop 1 ({OLD.hash})", f"shop 2 ({NEW.hash})")
    assert [(one.model, one.runs) for one in found.left_out] == [("other", 1)]
    assert (found.archive.runs, found.runs_left_out) == (2, 0)


def test_runs_that_began_too_early_are_left_out_and_counted(results: Store, tmp_path: Path) -> None:
    chosen = archive(results, since=datetime(2026, 11, 10, tzinfo=UTC))
    found = backtest(compiled(NEW), chosen, tmp_path / "changed.parquet")
    assert found.images == len(AGAIN)
    assert (found.runs_left_out, found.images_left_out) == (1, sum(image.frames is not None for image in IMAGES))


def test_decisions_of_several_policies_are_each_compared_as_they_are(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    write_runs(output, Run(FIRST, OLD, IMAGES), Run(SECOND, NEW, IMAGES[:100]))
    found, changed = tried(output, NEW, tmp_path)
    assert not {image.ref.uri for image in IMAGES[:100]} & set(changed)
    assert {row["policy_hash_before"] for row in changed.values()} == {OLD.hash}
    assert found.old == f"shop 2 ({NEW.hash}), shop 1 ({OLD.hash})"


def test_where_no_rule_is_live_everything_is_allowed(results: Store, tmp_path: Path) -> None:
    new = make_policy(
        {"id": "only", "prompts": ["a nude"], "mode": "shadow", "review": 0.1}, contrast=["a wall"], templates=["{}"]
    )
    found, changed = tried(results, new, tmp_path)
    assert found.total.after.block == 0
    assert found.total.after.review == found.errors
    row = next(row for row in changed.values() if row["rule_before"] == "nudity")
    assert (row["rule_after"], row["rule"], row["score"], row["threshold"], row["frame"]) == (None, "nudity", None, None, None)


def test_rows_under_an_earlier_schema_and_shards_of_errors_alone(tmp_path: Path) -> None:
    broken = [image for image in IMAGES if image.error is not None]
    output = Store(str(tmp_path / "results"))
    write_runs(output, Run(FIRST, OLD, broken, shards=2))
    found, changed = tried(output, NEW, tmp_path)
    assert (found.scored, found.errors, len(changed)) == (0, len(broken), len(broken))
    assert {(row["before"], row["after"], row["rule"], row["status"]) for row in changed.values()} == {
        ("review", "block", None, "error")
    }
    assert found.examples[0].rule is None


# --- what is shown ----------------------------------------------------------------------------------------------------------


def test_the_nearest_of_each_rule_are_those_of_all_images(
    results: Store, truth: Callable[[Policy], dict[str, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = truth(OLD), truth(NEW)
    found, _ = tried(results, NEW, tmp_path)
    ready = compiled(NEW)
    for number, rule in enumerate(ready.rules):
        distances = []
        for uri, image in NEWEST.items():
            if image.frames is not None:
                score = ready.scores(image.frames)[:, number].max()
                near = min(abs(score - np.float32(t)) for t in rule.thresholds)
                distances.append((float(near), uri, float(score)))
        expected = sorted(distances)[: shown_images.NEAREST]
        got = found.rules[rule.id].nearest
        assert [(shown_images.distance(one), one.uri, one.score) for one in got] == expected
        assert all(one.threshold in rule.thresholds and one.rule == rule.id for one in got)
        assert all((one.before, one.after) == (before[one.uri]["action"], after[one.uri]["action"]) for one in got)
    assert found.rules["gone"].nearest == ()


def test_examples_are_some_of_each_change_the_largest_steps_first(results: Store, tmp_path: Path) -> None:
    found, changed = tried(results, NEW, tmp_path)
    counts = Counter((one.before, one.after) for one in found.examples)
    for pair, count in counts.items():
        assert count == min(found.transitions[pair], shown_images.EXAMPLES)
    assert set(counts) == {pair for pair, count in found.transitions.items() if count and pair[0] != pair[1]}
    steps = [abs(ORDER.index(one.after) - ORDER.index(one.before)) for one in found.examples]
    assert steps == sorted(steps, reverse=True)
    for step in set(steps):
        those = [
            shown_images.distance(one)
            for one in found.examples
            if abs(ORDER.index(one.after) - ORDER.index(one.before)) == step
        ]
        assert those == sorted(those)
    assert all(changed[one.uri]["etag"] == one.etag and changed[one.uri]["score"] == one.score for one in found.examples)


# --- folders ----------------------------------------------------------------------------------------------------------------


def test_folders_are_cut_where_there_are_too_many_and_no_image_is_lost() -> None:
    one = np.eye(9, dtype=np.int64)[0]
    counts = folders.FolderCounts(most=10)
    counts.add({f"s3://b/2026/{n:03}/": one for n in range(8)} | {"s3://b/": one})
    assert counts.depth is None
    assert len(counts.counts) == 9
    counts.add({f"s3://b/2025/{n:03}/deep/er/": one for n in range(8)})
    assert counts.depth == 2
    assert {folder: int(found.sum()) for folder, found in counts.counts.items()} == {
        "s3://b/2026/": 8,
        "s3://b/2025/": 8,
        "s3://b/": 1,
    }
    counts.add({"s3://b/2024/01/": one})
    assert counts.counts["s3://b/2024/"].sum() == 1


@pytest.mark.parametrize(
    ("folder", "depth", "expected"),
    [
        ("s3://b/2026/11/", 2, "s3://b/2026/"),
        ("s3://b/2026/11/", 9, "s3://b/2026/11/"),
        ("s3://b//a/c/", 2, "s3://b//"),
        ("file:///home/you/pictures/", 2, "file:///home/you/"),
        ("file:///home/", 1, "file:///home/"),
        ("memory://x/a\nb/c/", 2, "memory://x/a\nb/"),
    ],
)
def test_folders_are_cut_by_levels(folder: str, depth: int, expected: str) -> None:
    assert folders.cut(folder, depth) == expected
    found = folders.folders(pa.array([folder + "image.jpg", folder]), depth)
    assert found.to_pylist() == [expected, expected]


def test_folders_beyond_the_largest_are_one() -> None:
    total = Total()
    total.folders.add({f"s3://b/{n}/": (n + 1) * np.eye(9, dtype=np.int64)[1] for n in range(5)})
    found = total.by_folder(most=2)
    assert {folder: counts.after.review for folder, counts in found.items()} == {"s3://b/4/": 5, "s3://b/3/": 4, OTHER: 6}
    assert list(found)[-1] == OTHER


# --- conditions -------------------------------------------------------------------------------------------------------------


def test_a_condition_chooses_images_at_their_newest_decision(
    results: Store, truth: Callable[[Policy], dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    before = truth(OLD)
    with Condition("uri LIKE '%/users/%' AND (top_score > 0.4 OR status = 'error')") as condition:
        found, changed = tried(results, NEW, tmp_path, condition=condition)
        assert set(condition.columns) >= {"uri", "top_score", "status"}
    chosen = {u for u, r in before.items() if "/users/" in u and (r["status"] == "error" or r["top_score"] > 0.4)}
    assert 10 < found.images == len(chosen) < len(NEWEST)
    assert set(changed) <= chosen
    assert found.not_chosen == len(NEWEST) - len(chosen)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("top_scor > 0.5", "no column 'top_scor'; did you mean 'top_score'? they have run_id, uri, etag"),
        ("top_score >", "syntax error"),
        ("uri", "Could not convert string"),
        ("1=1) UNION SELECT * FROM runs --", "syntax error"),
        ("true; DROP TABLE x", "more than one statement"),
        ("count(*) > 1", "aggregates"),
        ("uri IN (SELECT uri FROM secret)", "secret does not exist"),
        ("EXISTS (SELECT * FROM read_text('/etc/passwd'))", "disabled by configuration"),
        ("EXISTS (SELECT * FROM read_parquet('https://example.org/x.parquet'))", ""),
        ("uri LIKE '%a%' LIMIT 1", "modifier"),
        ("", "without selection"),
        ("COLUMNS(*) = 'a' LIMIT 1", "modifier"),
    ],
)
def test_a_malformed_condition_is_refused_in_one_line(results: Store, tmp_path: Path, sql: str, told: str) -> None:
    secret = pa.table({"uri": ["s3://shop/=1+1.jpg"]})  # variables of the program are not tables
    with pytest.raises(SettingsError) as error, Condition(sql) as condition:
        tried(results, NEW, tmp_path, condition=condition)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("--where")
    assert not list(tmp_path.iterdir())
    assert len(secret) == 1


def test_a_condition_that_nothing_meets_is_an_error_and_leaves_no_file(results: Store, tmp_path: Path) -> None:
    with Condition("uri = 'nothing'") as condition, pytest.raises(SettingsError, match="true for none of the 400 images"):
        tried(results, NEW, tmp_path, condition=condition)
    assert not list(tmp_path.iterdir())


def test_a_condition_that_is_null_chooses_no_image() -> None:
    with Condition("top_score < 2") as condition:
        row = {f.name: pa.nulls(1, f.type) for f in schemas.DECISIONS}
        assert condition.holds(pa.table(row)).tolist() == [False]


# --- the list of changed images ---------------------------------------------------------------------------------------------


def test_the_list_says_what_its_columns_mean_and_is_written_as_it_grows(
    results: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_images, "_ROW_GROUP", 50)
    tried(results, NEW, tmp_path)
    file = pq.ParquetFile(tmp_path / "changed.parquet")
    assert file.schema_arrow.equals(changed_images.SCHEMA)
    assert all(field.metadata[b"description"] for field in file.schema_arrow)
    assert file.num_row_groups > 2
    assert [path.name for path in tmp_path.iterdir()] == ["changed.parquet"]


def test_a_damaged_file_is_named_and_an_earlier_list_stays(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    write_runs(output, Run(FIRST, OLD, IMAGES[:60]))
    (manifest,) = published_manifests(output)
    (tmp_path / "changed.parquet").write_bytes(b"earlier")
    entry = next(entry for entry in manifest.files if entry.table == "embeddings")
    whole = output.get(entry.path)
    for data in (whole[: len(whole) // 2], b"nothing", b"x" * 200 + whole[200:]):
        output.put(entry.path, data)
        with pytest.raises(OutputError, match="damaged") as error:
            tried(output, NEW, tmp_path)
        assert entry.path in str(error.value)
    output.delete(entry.path)
    with pytest.raises(OutputError, match=r"cannot read .* which a manifest names"):
        tried(output, NEW, tmp_path)
    assert (tmp_path / "changed.parquet").read_bytes() == b"earlier"


def test_a_list_that_cannot_be_written_is_one_line(results: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*changed\.parquet"):
        backtest(compiled(NEW), archive(results), tmp_path / "file" / "changed.parquet")


def test_an_archive_without_images_is_an_error(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    write_runs(output, Run(FIRST, OLD, [], shards=1))
    with pytest.raises(SettingsError, match="have no image"):
        tried(output, NEW, tmp_path)


# --- budgets ----------------------------------------------------------------------------------------------------------------


def _with_new_blocks(count: int, images: int) -> Backtest:
    transitions = {(a, b): 0 for a in ORDER for b in ORDER} | {("review", "block"): count}
    fields: dict[str, Any] = dict.fromkeys(("against", "old", "new"), "") | dict.fromkeys(("archive", "left_out", "rules"), ())
    return Backtest(**fields, scored=images, errors=0, transitions=transitions, prefixes={}, days={}, examples=())


@pytest.mark.parametrize(
    ("limit", "blocks", "over"),
    [
        ("0.1%", 1, None),
        (
            "0.1%",
            2,
            "2 images become blocked that were not, 0.20% of 1,000: 1 more than the 1 that --max-new-blocks 0.1% allows",
        ),
        ("0", 0, None),
        ("0", 1, "1 image becomes blocked that was not, 0.10% of 1,000: 1 more than the 0 that --max-new-blocks 0 allows"),
        ("100 %", 1000, None),
        ("29%", 290, None),
        ("12", 13, "13 images"),
    ],
)
def test_a_budget_is_a_share_of_all_images_or_a_number(limit: str, blocks: int, over: str | None) -> None:
    found = Budget.parse("blocks", limit).exceeded(_with_new_blocks(blocks, 1000))
    assert found is None if over is None else found is not None and found.startswith(over)


@pytest.mark.parametrize("text", ["", "-1", "0.5", "101%", "1e3", "nan", "a lot", "0,1%", "%"])
def test_a_malformed_change_budget_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--max-new-reviews: .* is not a limit: give a share"):
        Budget.parse("reviews", text)


def test_scores_near_thresholds_are_shown_with_the_policys_digits() -> None:
    assert shard_backtest._short(np.float32(0.9)) == 0.9
    assert math.isinf(shown_images.distance(shown_images.Changed("u", "e", 0, "allow", "block", None, None, None)))
    assert Image(NEWEST[HOSTILE[0]].ref, None).error is None
