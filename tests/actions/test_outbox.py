"""The outbox: crashes after every write, two runs at once, leases, snapshots."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from acted import GUN, IMAGES, NUDE, blocked, publish_images, quick, review, target, webhook
from places import TESTS
from vector_results import Image
from webhook_receiver import Receiver, Reply, verified

from moderation.actions import acting
from moderation.actions.acting import Settings, act_on, go_live, is_live
from moderation.actions.lease import BusyError, Holder, Lease, LeaseLostError, newest
from moderation.actions.outbox import Outbox, load
from moderation.errors import ErrorCode, ModerationError, OutputError, StorageError
from moderation.query.connection import connect
from moderation.results.retention import leftovers
from moderation.reviews.review import ReviewAction
from moderation.storage import Store

KILLED = 9


def keys(output: Store, prefix: str) -> list[str]:
    return sorted(output.key_of(item.uri) for page in output.list(prefix) for item in page)


@pytest.mark.slow
def test_a_process_that_is_killed_after_any_write_loses_nothing_and_repeats_only_with_the_same_key(tmp_path: Path) -> None:
    results = tmp_path / "results"
    images = (IMAGES[0], *blocked(6))
    publish_images(Store(str(results)), images)
    (tmp_path / "work").mkdir()
    with Receiver() as receiver:
        command = [
            sys.executable,
            str(TESTS / "helpers" / "dying_actions.py"),
            str(results),
            receiver.url,
            str(tmp_path / "work"),
        ]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        messages = [message.content for message in receiver.messages]
        assert all(verified(message) for message in receiver.messages)
    ended = [int(line) for line in done.stdout.split()]
    assert ended == [KILLED] * (len(ended) - 1) + [0]
    assert len(ended) > 20, "lease, four batches with outcomes, two snapshots, and what they remove"
    for number in range(1, len(ended) + 1):
        sent = [message for message in messages if message["target"] == f"trust-{number}"]
        for image in images:
            actions = [(m["action"], m["change"], m["id"]) for m in sent if m["item"]["uri"] == image.uri]
            wanted = ["block", "allow"] if image.uri == GUN else ["block"]
            distinct = list(dict.fromkeys(actions))
            assert [action for action, _, _ in distinct] == wanted, (number, image.uri)
            assert actions == sorted(actions, key=lambda one: one[1]), "in order"
        assert len(sent) <= len(images) + 1 + 2, "no more is repeated than was being sent"


class FailingStore(Store):
    """Refuses every write to the outbox from the n-th on, as a full disk does."""

    def __init__(self, uri: str, writes: int) -> None:
        super().__init__(uri)
        self.left = writes

    def put(self, key: str, data: bytes | Path, create_only: bool = False) -> None:
        self._count(key)
        super().put(key, data, create_only)

    def delete(self, key: str) -> None:
        self._count(key)
        super().delete(key)

    def _count(self, key: str) -> None:
        self.left -= 1
        if self.left <= 0 and key.startswith("_actions/"):
            raise StorageError(ErrorCode.STORAGE_ERROR, "the disk is full")


def test_a_store_that_fails_from_any_write_on_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "COMPACT_AFTER", 2)
    pristine = tmp_path / "pristine"
    publish_images(Store(str(pristine)))
    survived = False
    for writes in range(1, 30):
        output = Store(str(shutil.copytree(pristine, tmp_path / str(writes))))
        failing = FailingStore(output.uri, writes)
        with Receiver() as receiver:
            try:
                act_on(failing, webhook(receiver), quick())
            except OutputError as error:
                message = str(error)
            else:
                message = ""
            survived = failing.left > 0
            assert message == "" or "the disk is full" in message
            for key in keys(output, "_actions/trust/lease/"):
                output.delete(key)  # as if its time had passed
            act_on(output, webhook(receiver), quick())
        assert receiver.actions() == {GUN: ["block"], NUDE: ["block"]}, writes
        assert len({message.content["id"] for message in receiver.messages}) == 2
        assert load(output, "trust").open == {}
        if survived:
            break
    assert survived
    assert writes > 8, "lease, deliveries, outcomes, three files of a snapshot, two entries removed"


@pytest.fixture(params=["folder", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "results"))
    request.getfixturevalue("s3_endpoint")
    bucket = f"acting-{os.getpid()}-{time.time_ns()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return Store(f"s3://{bucket}/results")


def test_of_two_runs_at_once_one_sends_and_nothing_is_sent_twice(anywhere: Store) -> None:
    publish_images(anywhere, blocked(60))
    begun, going = threading.Event(), threading.Event()

    def slow(number: int, message: dict[str, Any]) -> Reply:
        begun.set()
        going.wait(60)
        return Reply()

    with Receiver(slow) as receiver:
        chosen = webhook(receiver, timeout_s=60)
        settings = Settings(quick().resolve, quick().patience, lease_s=1.0, skew_s=0.0)
        first: list[acting.Acted] = []
        thread = threading.Thread(target=lambda: first.append(act_on(anywhere, chosen, settings)))
        thread.start()
        assert begun.wait(60)
        second = act_on(anywhere, chosen, settings)
        going.set()
        thread.join()
    assert second.busy.startswith("another run is at work: process ")
    assert (first[0].delivered, first[0].busy) == (60, "")
    assert len(receiver.messages) == 60
    assert receiver.actions() == {image.uri: ["block"] for image in blocked(60)}


def test_many_runs_in_a_race_send_each_action_once(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    publish_images(output, blocked(40))
    with Receiver() as receiver:
        chosen = webhook(receiver)
        settings = Settings(quick().resolve, quick().patience, lease_s=2.0, skew_s=0.0, batch=10)
        acted: list[acting.Acted] = []
        threads = [threading.Thread(target=lambda: acted.append(act_on(output, chosen, settings))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(acted) == 4
    assert sum(one.delivered for one in acted) == len(receiver.messages) == 40


def test_a_lease_that_has_ended_is_taken_over_and_its_holder_stops(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    first = Lease(output, "_actions/a/", lasts_s=0.2, skew_s=0.0)
    first._take()  # as a process that is stopped: nothing renews it
    with Lease(output, "_actions/a/", lasts_s=60.0, skew_s=0.0) as second:
        second.check()
        with pytest.raises(LeaseLostError):
            first.check()
        outbox = Outbox(output, "a")
        with pytest.raises(LeaseLostError):
            outbox.append_deliveries([], first)
        assert keys(output, "_actions/a/log/") == []
    assert len(keys(output, "_actions/a/lease/")) == 1, "old ones are removed"


def test_a_lease_is_renewed_while_its_runner_lives(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    with Lease(output, "_actions/a/", lasts_s=0.4, skew_s=0.0) as lease:
        with pytest.raises(BusyError, match="another run is at work: process"):
            Lease(output, "_actions/a/", lasts_s=0.4, skew_s=0.0)._take()
        lease.check()
    epoch, holder = newest(output, "_actions/a/lease/")
    assert holder is not None
    assert holder.released
    with Lease(output, "_actions/a/") as again:
        assert again._epoch > epoch


def test_an_entry_that_another_run_wrote_stops_this_one(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    publish_images(output)
    with Receiver() as receiver, Lease(output, "_actions/trust/") as lease:
        behind = load(output, "trust")
        lease.check()
        output.put("_actions/trust/log/000000000001.parquet", b"of another run")
        with pytest.raises(LeaseLostError, match="another run wrote"):
            behind.append_outcomes([], lease) or behind._append(pa.table({"key": ["a"]}), lease)
        assert receiver.messages == []


def test_a_snapshot_replaces_the_log_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "COMPACT_AFTER", 4)
    output = Store(str(tmp_path / "results"))
    publish_images(output, blocked(20))
    refuse = {"s3://shop/0003.jpg"}
    with Receiver(lambda number, message: Reply(400 if message["item"]["uri"] in refuse else 200)) as receiver:
        chosen = webhook(receiver, connections=1)
        acted = act_on(output, chosen, quick(batch=3))
        assert (acted.delivered, acted.parked) == (19, 1)
        outbox = load(output, "trust")
        assert outbox.snapshot > 0
        assert outbox.entries < 4
        assert (outbox.delivered, [one.delivery.uri for one in outbox.parked]) == (19, list(refuse))
        items = pa.Table.from_batches(outbox.items())
        assert len(set(items["item"].to_pylist())) == 20
        assert act_on(output, chosen, quick()).planned == {}
        review(output, blocked(20)[5], ReviewAction.ALLOW)
        assert act_on(output, chosen, quick()).planned == {"allow": 1}
        publish_images(output, (Image(blocked(20)[5].uri, [[0.9375]], "new"),), run_id="20261122T030000Z-abcdef")
        acted = act_on(output, chosen, quick())
    assert acted.planned == {"block": 1}
    assert [m.content["change"] for m in receiver.messages if m.uri == blocked(20)[5].uri] == [1, 2, 3]


def test_the_cost_in_storage_is_a_batch_not_an_image(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    publish_images(output, blocked(1200))
    lines = target(f"{{name: lines, actions: [block], jsonl: {{folder: '{tmp_path / 'lines'}'}}}}")
    assert act_on(output, lines, quick()).delivered == 1200
    assert len(keys(output, "_actions/")) == 1 + 2 * 3
    written = sorted((tmp_path / "lines").iterdir())
    assert len(written) == 3
    uris = [json.loads(line)["item"]["uri"] for file in written for line in file.read_text().splitlines()]
    assert sorted(uris) == [image.uri for image in blocked(1200)]


def test_files_of_json_lines_are_not_written_twice_after_a_crash(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    publish_images(output)
    lines = target(f"{{name: lines, actions: [block], jsonl: {{folder: '{tmp_path / 'lines'}'}}}}")
    act_on(output, lines, quick())
    (outcome,) = [key for key in keys(output, "_actions/lines/log/") if b"delivered" in output.get(key) or "000002" in key]
    output.delete(outcome)  # as if the process had ended before it
    assert act_on(output, lines, quick()).delivered == 2
    assert len(list((tmp_path / "lines").iterdir())) == 1


def test_the_outbox_is_nobody_elses_business(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    publish_images(output)
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
    assert leftovers(output).keys == ()
    with connect(output.uri) as connection:
        assert connection.sql("SELECT count(*) FROM decisions").fetchall() == [(4,)]


def test_going_live_is_remembered(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    assert not is_live(output, "a")
    go_live(output, "a")
    go_live(output, "a")
    assert is_live(output, "a")
    assert not is_live(output, "b")


@pytest.mark.parametrize("key", ["_actions/a/log/000000000001.parquet", "_actions/a/state/000000000003.json"])
def test_foreign_files_in_an_outbox_are_one_clear_error(tmp_path: Path, key: str) -> None:
    output = Store(str(tmp_path))
    output.put(key, b"not ours")
    with pytest.raises(OutputError, match="has files that this program did not write"):
        load(output, "a")


def test_a_lease_that_is_not_one_is_a_clear_error(tmp_path: Path) -> None:
    output = Store(str(tmp_path))
    output.put("_actions/a/lease/000000000001.json", b"{}")
    with pytest.raises(ModerationError, match="is not a lease of this program"), Lease(output, "_actions/a/"):
        pass


def test_entries_say_what_they_are(tmp_path: Path) -> None:
    output = Store(str(tmp_path / "results"))
    publish_images(output)
    with Receiver() as receiver:
        act_on(output, webhook(receiver), quick())
    kinds = [pq.read_schema(output.open(key)).metadata[b"kind"] for key in keys(output, "_actions/trust/log/")]
    assert kinds == [b"deliveries", b"outcomes"]
    assert Holder("a", "b", 1, 2.0).released is False
