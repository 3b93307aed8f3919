"""Hash lists apply to what is stored as to what is scored now, and nothing of a restricted match is ever shown."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archived import FIRST, MODEL, NEW, OLD, SECOND, THIRD, Run, compiled, write_runs
from listed_archive import listed_images, new_policy, old_policy
from quality_support import LIMITS

from moderation import Store
from moderation.lists.hash_list import HashKind
from moderation.lists.matching import MatchSettings
from moderation.policy.known_images import KnownImages
from moderation.policy.schema import Policy
from moderation.quality.facts import ExpectedRows
from moderation.quality.row_checks import check_rows
from moderation.records import Shard
from moderation.results import schemas
from moderation.results.aggregates import aggregate
from moderation.results.archive import open_archive, open_archives
from moderation.results.manifest import published_manifests
from moderation.results.paths import RunPaths
from moderation.results.read_run import read_decisions
from moderation.results.showing import may_show
from moderation.results.stored_images import stored_shards
from moderation.scoring.judging import RowContext
from moderation.scoring.redeciding import write_decided
from moderation.studies.backtest.backtesting import backtest
from moderation.studies.list_matching.matched_images import History, match_history
from moderation.studies.replay.replay_result import Difference
from moderation.studies.replay.row_comparison import Differences
from moderation.studies.replay.shard_reading import RunFiles, load_shards, shards_of
from moderation.studies.replay.shard_replay import replay_shard
from moderation.studies.sampling.drawing import draw
from moderation.studies.search.nearest import nearest

OLD_LISTED, NEW_LISTED = old_policy(OLD), new_policy(NEW)
IMAGES = listed_images(400, seed=5)
Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Store:
    output = Store(str(tmp_path_factory.mktemp("listed") / "results"))
    write_runs(output, Run(FIRST, OLD_LISTED, IMAGES))
    return output


def full_run(folder: Path, policy: Policy) -> Store:
    output = Store(str(folder / "full"))
    write_runs(output, Run(THIRD, policy, IMAGES, shards=5))
    return output


def rows_of(output: Store) -> Rows:
    (manifest,) = published_manifests(output)
    return {row["uri"]: row for row in read_decisions(output, manifest).to_pylist()}


def tables_of(output: Store) -> dict[str, pa.Table]:
    (manifest,) = published_manifests(output)
    return {
        table: pa.concat_tables(pq.read_table(io.BytesIO(output.get(e.path))) for e in manifest.files if e.table == table)
        for table in schemas.TABLES
    }


def test_every_part_of_the_precedence_is_met(results: Store, tmp_path: Path) -> None:
    for rows in (rows_of(results), rows_of(full_run(tmp_path, NEW_LISTED))):
        seen = Counter((row["status"], row["top_rule"], row["action"]) for row in rows.values())
        for status in ("scored", "error"):
            assert seen[status, "brand", "allow"] > 0
        assert seen["scored", "known", "block"] > 0
        assert any(row["overridden"] for row in rows.values())
        assert any(row["frame"] for row in rows.values() if row["top_rule"] == "known"), "only first frames match"
        for row in rows.values():
            names = [match["list"] for match in row["list_matches"] or ()]
            assert len(set(names)) == len(names)
            if row["top_rule"] in ("known", "brand", "secret", "seen"):
                assert row["top_score"] is row["top_threshold"] is None
                assert row["top_rule"] in names


@pytest.mark.parametrize("policy", [OLD_LISTED, NEW_LISTED], ids=["old", "new"])
def test_the_rows_pass_the_row_checks(tmp_path: Path, policy: Policy) -> None:
    output = full_run(tmp_path, policy)
    (manifest,) = published_manifests(output)
    tables = tables_of(output)
    expected = ExpectedRows(manifest.run_id, policy, manifest.model_fingerprint)
    found = check_rows(tables["decisions"], tables["scores"], expected, LIMITS)
    assert [str(one.result) for one in found if not one.result.passed] == []


@pytest.mark.parametrize("by_file", [False, True], ids=["against published", "against a file"])
def test_a_backtest_with_lists_equals_a_full_run_row_by_row(results: Store, tmp_path: Path, by_file: bool) -> None:
    before, after = rows_of(results), rows_of(full_run(tmp_path, NEW_LISTED))
    old = compiled(OLD_LISTED) if by_file else None
    found = backtest(compiled(NEW_LISTED), open_archive(results), tmp_path / "changed.parquet", old=old)
    changed = {row["uri"]: row for row in pq.read_table(tmp_path / "changed.parquet").to_pylist()}
    assert set(changed) == {uri for uri in before if before[uri]["action"] != after[uri]["action"]}
    assert len(changed) > 100
    for uri, row in changed.items():
        was, now = before[uri], after[uri]
        assert (row["before"], row["after"]) == (was["action"], now["action"])
        assert (row["flags_before"], row["flags_after"]) == (was["flags"], now["flags"])
        if now["flagged"] or now["status"] == "error":
            assert row["rule_after"] == now["top_rule"]
        if now["flagged"]:
            assert row["score"] == now["top_score"]
    for name, rule in found.rules.items():
        had = {uri for uri in before if name in before[uri]["flags"]}
        has = {uri for uri in after if name in after[uri]["flags"]}
        assert (rule.before, rule.after, rule.gained, rule.lost) == (len(had), len(has), len(has - had), len(had - has)), name
    assert {"known", "secret", "seen", "trial"} <= set(found.rules)
    would = Counter(flag for row in after.values() for flag in row["shadow_flags"])
    assert {name: rule.would for name, rule in found.rules.items() if rule.would} == would


def test_the_same_lists_change_nothing(results: Store, tmp_path: Path) -> None:
    for old in (None, compiled(OLD_LISTED)):
        found = backtest(compiled(OLD_LISTED), open_archive(results), tmp_path / "changed.parquet", old=old)
        assert found.total.changed == 0


@pytest.mark.parametrize("policy", [OLD_LISTED, NEW_LISTED], ids=["old", "new"])
def test_rows_with_lists_are_replayed_bit_for_bit(tmp_path: Path, policy: Policy) -> None:
    output = full_run(tmp_path, policy)
    (manifest,) = published_manifests(output)
    files = RunFiles(output, manifest)
    shards, problems = shards_of(files)
    assert problems == []
    context = RowContext(manifest.run_id, compiled(policy), manifest.model, manifest.model_fingerprint)
    differences, counts = Differences(), None
    for shard in load_shards(files, shards):
        found = replay_shard(shard, context, differences)
        assert found is not None
        assert all("is not a unit vector" in problem for problem in shard.problems), "which these are not"
        counts = found if counts is None else counts + found
    assert differences.shown == []
    assert counts == manifest.counts
    assert counts.matched["known"] > 3
    assert counts.unscored_review != 0


def test_a_match_that_was_changed_is_found_by_replay(results: Store) -> None:
    (manifest,) = published_manifests(results)
    files = RunFiles(results, manifest)
    context = RowContext(manifest.run_id, compiled(OLD_LISTED), manifest.model, manifest.model_fingerprint)
    differences = Differences()
    for shard in load_shards(files, shards_of(files)[0]):
        rows = shard.tables["decisions"].to_pylist()
        row = next(row for row in rows if row["list_matches"] and row["list_matches"][0]["list"] == "known")
        row["list_matches"][0]["distance"] += 1
        shard.tables["decisions"] = pa.Table.from_pylist(rows, shard.tables["decisions"].schema)
        replay_shard(shard, context, differences)
    assert set(differences.by_column) == {"decisions.list_matches"}
    assert all(isinstance(one, Difference) for one in differences.shown)


def test_redeciding_gives_the_rows_of_a_full_run(results: Store, tmp_path: Path) -> None:
    expected = rows_of(full_run(tmp_path, NEW_LISTED))
    (manifest,) = published_manifests(results)
    scored = tuple(image.ref for image in IMAGES if image.frames is not None)
    shard = Shard("again", tuple(sorted(scored, key=lambda ref: ref.uri)))
    context = RowContext(SECOND, compiled(NEW_LISTED), manifest.model, manifest.model_fingerprint)
    paths = RunPaths(SECOND, "2026-11-15", MODEL)
    receipt = write_decided(shard, list(stored_shards(manifest)), context, paths, results)
    assert not isinstance(receipt, str)
    entry = next(entry for entry in receipt.files if entry.table == "decisions")
    rows = pq.read_table(io.BytesIO(results.get(paths.staged(receipt.attempt, entry.path)))).to_pylist()
    skipped = {"run_id", "scored_at", "policy_hash"}
    assert len(rows) == len(scored)
    for row in rows:
        assert {k: v for k, v in row.items() if k not in skipped} == {
            k: v for k, v in expected[row["uri"]].items() if k not in skipped
        }
    assert receipt.counts.matched["secret"] > 0


def test_history_is_matched_as_a_run_would_match_it(results: Store, tmp_path: Path) -> None:
    after = rows_of(full_run(tmp_path, NEW_LISTED))
    for one in NEW_LISTED.lists:
        settings = MatchSettings(one.id, one.hash, one.distance, one.min_quality, one.turned)
        sums = History()
        found = {m.uri: m for m in match_history(open_archives(results), NEW_LISTED.assets.lists[one.id], settings, sums)}
        expected = {uri: match for uri, row in after.items() for match in row["list_matches"] or () if match["list"] == one.id}
        assert {uri: (m.match.entry, m.match.distance, m.match.frame) for uri, m in found.items()} == {
            uri: (m["entry"], m["distance"], m["frame"]) for uri, m in expected.items()
        }
        assert (sums.images, sums.matched, sums.unknown) == (len(IMAGES), len(expected), 0)
        assert sum(sums.entries.values()) == len(expected) > 3


def test_images_without_an_md5_are_counted_and_not_matched(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    write_runs(output, Run(FIRST, OLD, [replace(image, md5=None) for image in IMAGES[:50]]))
    seen = next(one for one in NEW_LISTED.lists if one.hash is HashKind.MD5)
    sums = History()
    content = NEW_LISTED.assets.lists[seen.id]
    assert list(match_history(open_archives(output), content, MatchSettings("seen", HashKind.MD5), sums)) == []
    assert sums.unknown == sums.images == 50
    (manifest,) = published_manifests(output)
    assert manifest.counts.without_md5 == 0, "no list needed it"
    images = [replace(image, md5=None) for image in IMAGES[:50]]
    write_runs(Store(str(tmp_path / "again")), Run(FIRST, NEW_LISTED, images))
    (manifest,) = published_manifests(Store(str(tmp_path / "again")))
    assert manifest.counts.without_md5 == manifest.scored > 20


def hidden_uris(rows: Rows) -> set[str]:
    return {uri for uri, row in rows.items() if any(match["restricted"] for match in row["list_matches"] or ())}


def test_nothing_of_a_restricted_match_is_an_example_of_a_run(tmp_path: Path) -> None:
    output = full_run(tmp_path, NEW_LISTED)
    hidden = hidden_uris(rows_of(output))
    assert len(hidden) > 10
    (manifest,) = published_manifests(output)
    decisions = read_decisions(output, manifest)
    assert {uri for uri, shown in zip(decisions["uri"].to_pylist(), may_show(decisions), strict=True) if not shown} == hidden
    tables = tables_of(output)
    found = aggregate(NEW_LISTED, *(tables[table] for table in ("decisions", "scores", "embeddings")))
    kinds = ((*rule.examples, *rule.spread, *rule.near) for rule in found.rules.values())
    shown = {one.uri for kind in kinds for one in kind} | {one.uri for one in found.clean}
    shown |= {one.uri for errors in found.errors.values() for one in errors}
    assert len(shown) > 30
    assert not shown & hidden
    assert sum(found.entries["secret"].values()) == manifest.counts.matched["secret"] > 0, "they are counted"


def test_nothing_of_a_restricted_match_is_shown_by_a_backtest(results: Store, tmp_path: Path) -> None:
    hidden = hidden_uris(rows_of(full_run(tmp_path, NEW_LISTED)))
    found = backtest(compiled(NEW_LISTED), open_archive(results), tmp_path / "changed.parquet")
    shown = {one.uri for one in found.examples}
    shown |= {one.uri for rule in found.rules.values() for one in (*rule.nearest, *rule.would_flag)}
    assert len(shown) > 50
    assert not shown & hidden
    listed = {row["uri"] for row in pq.read_table(tmp_path / "changed.parquet").to_pylist()}
    assert listed & hidden, "restricted images stay in the rows"


def test_nothing_of_a_restricted_match_is_drawn_for_labels_or_found_by_search(results: Store, tmp_path: Path) -> None:
    output = full_run(tmp_path, NEW_LISTED)
    hidden = hidden_uris(rows_of(output))
    scored = {image.ref.uri for image in IMAGES if image.frames is not None}
    new = compiled(NEW_LISTED)
    queries = np.eye(8)[:1]
    for archive in (open_archive(output), open_archive(results)):  # matched when decided; matched only under the policy in use
        drawn = draw(archive, new, new.rules[0], 300)
        assert {image.uri for image in drawn.images}
        assert not {image.uri for image in drawn.images} & hidden
        assert drawn.restricted == len(hidden & scored) > 0
        found = nearest(archive, queries, 1000, known=KnownImages(NEW_LISTED))
        assert found.found
        assert not {one.uri for one in found.found} & hidden
        assert (found.restricted, found.images) == (len(hidden & scored), len(scored) - len(hidden & scored))
