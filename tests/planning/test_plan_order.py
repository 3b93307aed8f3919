"""The plan is the same, bit for bit, in whatever order helpers are done, and however many of them are lost."""

import json
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import planned_in_process

from moderation import RunError, RunSettings
from moderation.demo import POLICY_FILE
from moderation.planning.blocks import Block, BlockReader, Part, blocks
from moderation.planning.helpers import HelperLostError, InProcess, Step, reading_of
from moderation.planning.inputs import Inputs, check_inputs
from moderation.planning.plan import Page
from moderation.planning.planner import Tally, plan_shards
from moderation.planning.steps import Cut
from moderation.records import ObjectRef
from moderation.results.ledger import Ledger, version_hashes
from moderation.results.paths import RunPaths
from moderation.sources import tables

PATHS = RunPaths("run", "2026-11-21", "0" * 16)
KINDS = ("parquet", "csv", "csv inventory", "parquet inventory", "folder", "two folders", "two manifests")


@dataclass
class _Read:
    """A part that is being read."""

    blocks: Iterator[tuple[Block, pa.Table]]
    ready: deque[tuple[Block, pa.Table]] = field(default_factory=deque)
    ended: bool = False

    def go_on(self) -> None:
        found = next(self.blocks, None)
        if found is None:
            self.ended = True
        else:
            self.ready.append(found)


class Disorderly(InProcess):
    """Helpers that get ahead of one another by chance, and die by chance."""

    def __init__(self, inputs: Inputs, ledger: Ledger, readers: int, seed: int, losses: int = 0) -> None:
        super().__init__(inputs, PATHS, ledger)
        self.readers, self._dice, self._losses = readers, random.Random(seed), losses
        self._reads: list[_Read] = []
        self.together = 0
        """parts that were being read at the same time"""

    def blocks(self, part: Part) -> Iterator[tuple[Block, Any]]:
        read = _Read(blocks(part, self._reading, self._ledger))
        self._reads = [other for other in self._reads if not other.ended or other.ready]
        self._reads.append(read)
        self.together = max(self.together, len(self._reads))
        assert len(self._reads) <= self.readers
        return self._given(read)

    def _given(self, read: _Read) -> Iterator[tuple[Block, Any]]:
        while True:
            while not read.ready or self._dice.random() < 0.5:
                self._dice.choice(self._reads).go_on()
                if all(other.ended for other in self._reads):
                    break
            self._perhaps_lose()
            block, objects = read.ready.popleft()
            yield block, objects
            if block.last:
                read.ended = True
                return

    def store(self, cut: Cut, references: Sequence[Any]) -> Step:
        self._perhaps_lose()
        step = super().store(cut, references)
        self._perhaps_lose()  # it is stored, and nobody was told
        return step

    def restart(self) -> None:
        self._reads = []

    def _perhaps_lose(self) -> None:
        if self._losses and self._dice.random() < 0.3:
            self._losses -= 1
            raise HelperLostError("it was killed")


def row(number: int) -> dict[str, object]:
    return {
        "uri": f"s3://shop/in/{number:03}.{'png' if number % 7 == 0 else 'jpg'}",
        "etag": f"{number}",
        "size": number,
        "last_modified": "2026-11-21T03:00:00.000Z",
    }


def parquet(path: Path, rows: Sequence[dict[str, object]]) -> str:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=4)
    return str(path)


def inventory(folder: Path, rows: Sequence[dict[str, object]], kind: str) -> str:
    """An inventory in files of five rows each."""
    (folder / "data").mkdir(parents=True)
    files = []
    for start in range(0, len(rows), 5):
        part = rows[start : start + 5]
        key, path = f"data/{start}.{kind}", folder / f"data/{start}.{kind}"
        keys = [str(one["uri"]).removeprefix("s3://shop/") for one in part]
        if kind == "csv":
            cells = [(key, one["size"], one["last_modified"], one["etag"]) for key, one in zip(keys, part, strict=True)]
            path.write_text("".join('"shop","{}","{}","{}","{}"\n'.format(*row) for row in cells))
        else:
            columns = {"bucket": ["shop"] * len(part), "key": keys, "size": [int(str(one["size"])) for one in part]}
            columns |= {"e_tag": [one["etag"] for one in part], "last_modified_date": [one["last_modified"] for one in part]}
            pq.write_table(pa.table(columns), path)
        files.append({"key": key, "size": path.stat().st_size})
    manifest = {
        "destinationBucket": "arn:aws:s3:::reports",
        "fileFormat": {"csv": "CSV", "parquet": "Parquet"}[kind],
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return str(folder / "manifest.json")


def sources(folder: Path, kind: str, numbers: Sequence[int]) -> list[str]:
    """Sources that name these numbers, some of them twice."""
    rows = [row(number) for number in numbers]
    folder.mkdir()
    if "folder" in kind:
        for number in numbers:
            path = folder / ("a" if number % 2 and kind == "two folders" else "b") / f"{number:03}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * number)
        return sorted(str(path) for path in folder.iterdir()) if kind == "two folders" else [str(folder)]
    if kind == "csv":
        lines = ["uri,etag,size,last_modified", *(",".join(map(str, one.values())) for one in rows)]
        (folder / "list.csv").write_text("\n".join(lines) + "\n")
        return [str(folder / "list.csv")]
    if "inventory" in kind:
        return [inventory(folder, rows, kind.split(maxsplit=1)[0])]
    if kind == "two manifests":
        return [parquet(folder / "1.parquet", rows[::2]), parquet(folder / "2.parquet", rows[::-1])]
    return [parquet(folder / "list.parquet", rows)]


def inputs(folder: Path, output: str, names: Sequence[str], limit: int | None) -> Inputs:
    (folder / output).mkdir()
    values = {"sources": names, "policy": str(POLICY_FILE), "output": str(folder / output), "limit": limit}
    return check_inputs(RunSettings.model_validate({**values, "exclude": ["*.png"]}))


def plan(given: Inputs, helpers: InProcess, size: int, stop: int | None = None) -> tuple[list[Page], Tally]:
    tally, found = Tally(), list[Page]()
    for page in plan_shards(given, PATHS, size, helpers, tally):
        found.append(page)
        if stop is not None and len(found) >= stop:
            break
    return found, tally


def stored(folder: Path, output: str) -> dict[str, bytes]:
    root = folder / output
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.parquet"))}


def counted(tally: Tally) -> tuple[int, ...]:
    return (tally.listed, tally.unchanged, tally.repeated, tally.planned, tally.named, tally.missing)


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """Pages, blocks and parts of a few rows: nothing about them is special."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "PAGE", 2)
        patch.setattr(tables, "PART", 7)
        patch.setattr("moderation.storage.local.PAGE", 2)
        patch.setattr("moderation.planning.helpers.PAGES", 2)
        yield


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(KINDS), count=st.integers(1, 45), size=st.integers(1, 12))
def test_the_stored_plan_does_not_depend_on_who_is_done_first_or_dies(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str, count: int, size: int
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    dice = random.Random(data.draw(st.integers(0, 1000)))
    numbers = [dice.randrange(60) for _ in range(count)]
    if not any(number % 7 for number in numbers):
        numbers.append(1)
    limit = data.draw(st.none() | st.integers(1, 50))
    names = sources(folder / "sources", kind, numbers)
    calm = inputs(folder, "calm", names, limit)
    listed = [item for source in calm.sources for page in source.list() for item in page]
    ledger = Ledger()
    ledger.add(version_hashes(item for item in listed if item.size % 5 == 0))
    ledger.add_embedded(version_hashes(item for item in listed if item.size % 3 == 0))
    expected, tally = plan(calm, InProcess(calm, PATHS, ledger), size)

    wild = inputs(folder, "wild", names, limit)
    readers, seed = data.draw(st.integers(1, 4)), dice.randrange(1000)
    stop = data.draw(st.none() | st.integers(1, 3))
    if stop is not None:  # an attempt that is killed
        plan(wild, Disorderly(wild, ledger, readers, seed), size, stop)
    found, again = plan(wild, Disorderly(wild, ledger, readers, seed + 1, losses=data.draw(st.integers(0, 4))), size)
    assert found == expected
    assert stored(folder, "wild") == stored(folder, "calm")
    assert counted(again) == counted(tally) if limit is None else counted(again)[:2] == counted(tally)[:2]
    accounted(expected, tally, listed, limit)


def accounted(pages: Sequence[Page], tally: Tally, listed: Sequence[ObjectRef], limit: int | None) -> None:
    """Every object once: in one shard, or unchanged."""
    planned = [item.uri for page in pages for item in page.objects]
    chosen = {item.uri: item for item in listed if not item.uri.endswith(".png")}
    unchanged = {uri for uri, item in chosen.items() if item.size % 5 == 0}
    assert len(planned) == len(set(planned)) == tally.planned
    assert not unchanged & set(planned)
    assert tally.listed == tally.named == tally.planned + tally.unchanged
    if limit is None:
        assert set(planned) | unchanged == set(chosen)
    else:
        assert len(planned) == min(limit, len(chosen) - len(unchanged))


def test_parts_are_read_at_the_same_time_but_not_where_a_limit_may_end_the_listing(tmp_path: Path) -> None:
    names = sources(tmp_path / "sources", "parquet", range(1, 50))
    for limit, together in ((None, 3), (30, 1)):
        made = inputs(tmp_path, f"out-{limit}", names, limit)
        helpers = Disorderly(made, Ledger(), 3, 0)
        plan(made, helpers, 5)
        assert helpers.together == together


def test_helpers_that_are_lost_again_and_again_end_the_run(tmp_path: Path) -> None:
    made = inputs(tmp_path, "out", sources(tmp_path / "sources", "parquet", range(1, 50)), None)
    with pytest.raises(RunError, match=r"were lost 5 times, the last time because of: it was killed; .* the same --run-id$"):
        plan(made, Disorderly(made, Ledger(), 2, 0, losses=100), 5)
    pages, tally = plan(made, Disorderly(made, Ledger(), 2, 0), 5)
    undisturbed = inputs(tmp_path, "other", list(made.settings.sources), None)
    assert pages == list(planned_in_process(undisturbed, PATHS, 5, Ledger(), Tally()))
    assert tally.planned == 42


def test_tables_hold_only_objects_that_may_be_planned(tmp_path: Path) -> None:
    """Or a run over a bucket that hardly changed would gather the tables of all of it until a shard is full."""
    made = inputs(tmp_path, "out", sources(tmp_path / "sources", "csv", range(1, 60)), None)
    [source] = made.sources
    ledger = Ledger()
    ledger.add(version_hashes(item for page in source.list() for item in page if item.size != 3))
    reader = BlockReader(reading_of(made), ledger)
    reader.open(Part(source))
    block, table = reader.read()
    assert len(block.flags) == block.entries == 4
    assert table["uri"].to_pylist() == [str(row(3)["uri"])]
    assert table["entry"].to_pylist() == [3]
    assert reader.read()[1].num_rows == 0
