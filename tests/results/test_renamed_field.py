"""Manifests and receipts of earlier versions say `decided_anew` where this one says `redecided`: both read the same."""

import json
from pathlib import Path

from published import JOBS, stage, write_results

from moderation.query.connection import connect, select
from moderation.results.manifest import Manifest, find_manifest
from moderation.results.publishing import publish
from moderation.results.shard_files import Receipt
from moderation.storage import Store


def renamed(content: bytes) -> bytes:
    """As an earlier version wrote it."""
    fields = json.loads(content)
    fields["decided_anew"] = fields.pop("redecided")
    return json.dumps(fields).encode()


def test_old_and_new_manifests_give_one_column(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    for job, count in zip(JOBS[:2], (7, 5), strict=True):
        paths, manifest, receipts = stage(output, job)
        publish(output, paths, manifest.model_copy(update={"redecided": count}), receipts)
    old = tmp_path / "results" / "runs" / f"{JOBS[0].run_id}.json"
    old.write_bytes(renamed(old.read_bytes()))
    read = [find_manifest(output, job.run_id) for job in JOBS[:2]]
    assert [one.redecided for one in read if one is not None] == [7, 5]
    with connect(output.uri) as connection:
        assert select(connection, "SELECT redecided FROM runs ORDER BY run_id").fetchall() == [(7,), (5,)]


def test_a_manifest_is_written_with_the_new_name_only(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    write_results(output, JOBS[:1])
    content = output.get(f"runs/{JOBS[0].run_id}.json")
    assert b'"redecided"' in content
    assert b"decided_anew" not in content
    assert Manifest.from_json(renamed(content)) == Manifest.from_json(content)


def test_a_resumed_run_reads_receipts_of_an_earlier_version(tmp_path: Path) -> None:
    _, _, (receipt, _) = stage(Store(str(tmp_path / "results")), JOBS[0])
    written = receipt.model_copy(update={"redecided": 3}).model_dump_json().encode()
    assert Receipt.model_validate_json(renamed(written)).redecided == 3
