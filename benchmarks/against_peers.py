"""The pipeline beside what people use today, on the same images with the same model: `python -m benchmarks.against_peers`.

Sides: a plain loop over open_clip in one process; Ray Data as its documentation does batch inference, and tuned; the pipeline.
All see the same files through the same weights and leave embeddings, scores and Parquet, on CPU cores only. Their embeddings
must agree. A rate is that of the steady state, between a quarter and nine tenths of a run's images, for all sides alike: what
starting costs is a figure of its own. Ray Data is written in several ways, and from round to round only its fastest counts.

`light` is a model that sees pictures as ViT-B/32 does and costs next to nothing, so that what is left is the work that stays
on CPU cores when a GPU encodes: the promised ratios are taken with it. With ViT-B/32 itself on CPU cores all sides mostly
wait for the same matrix products, and their ratio says little about either of them: `--only 500x375_vit_b_32` takes it.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.figures import Figure, emit
from benchmarks.images import LARGE, SMALL, write_jpegs
from benchmarks.machine import cores
from benchmarks.nginx import find_nginx, nginx, s3_from
from benchmarks.peers.sides import pipeline, plain_loop, ray_data_sides
from benchmarks.peers.timeline import Timeline, agreement
from benchmarks.peers.work import Work, light_model, vit_b_32
from moderation.cluster.session import ray_session
from moderation.errors import RunError, SettingsError

ROUNDS = 3
SAME = 0.999
"""The least cosine between two sides' embeddings of the same file."""
PLAIN, PIPELINE = "plain loop", "pipeline"
MOST_CORES = 16
"""More cores get no more images than this many."""


@dataclass(frozen=True)
class Case:
    """What all sides are given: images of a size, a model, and where the images are."""

    name: str
    size: tuple[int, int]
    batch: int
    images: Mapping[str, int]
    """of a run on two cores, by side: what takes some seconds; what is not named is Ray Data"""
    heavy: bool = False
    """whether the model is ViT-B/32"""
    remote: bool = False
    """whether the images come from nginx, as from S3"""
    promised: tuple[str, float] | None = None
    """the figure of the ratio to Ray Data, and its target"""


CASES = (
    Case("500x375", SMALL, 32, {PLAIN: 256, PIPELINE: 3072, "": 640}, promised=("vs_ray_data_500x375", 2.2)),
    Case("12mp", LARGE, 4, {PLAIN: 24, PIPELINE: 160, "": 48}, promised=("vs_ray_data_12mp", 3)),
    Case("500x375_s3", SMALL, 32, {PLAIN: 256, PIPELINE: 3072, "": 640}, remote=True),
    Case("500x375_vit_b_32", SMALL, 16, {PLAIN: 160, PIPELINE: 224, "": 160}, heavy=True),
)


@dataclass
class Found:
    """What the rounds of a case have brought."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    """for each, images per second by side"""
    first_s: dict[str, list[float]] = field(default_factory=dict)
    """seconds until the first images were scored, by side"""
    cosine: float = 1.0
    """the least between two sides' embeddings of a file"""
    seen: Timeline | None = None
    """a run with the most images, with which all others must agree"""

    def add(self, side: str, run: Timeline) -> None:
        """Take in a run. Raises `RunError` if its embeddings are others than those of another side."""
        self.rounds[-1][side] = run.rate
        self.first_s.setdefault(side, []).append(run.first_s)
        if self.seen is not None:
            self.cosine = min(self.cosine, agreement(self.seen, run))
        if not self.cosine >= SAME:
            raise RunError(f"the sides do not agree: {side} has an embedding with a cosine of {self.cosine:.5f} to another's")
        if self.seen is None or len(run.names) > len(self.seen.names):
            self.seen = run

    def rates(self, side: str) -> list[float]:
        """Images per second of a side, in the rounds that it took part in."""
        return [rates[side] for rates in self.rounds if side in rates]

    @property
    def peers(self) -> list[str]:
        """The ways with Ray Data, the fastest of the first round first."""
        others = {side: rate for side, rate in self.rounds[0].items() if side not in (PLAIN, PIPELINE)}
        return sorted(others, key=others.__getitem__, reverse=True)

    def ratios(self, *sides: str) -> list[float]:
        """The pipeline's rate over that of the fastest of `sides`, round by round."""
        return [rates[PIPELINE] / max(rates[side] for side in sides if side in rates) for rates in self.rounds]


def figures(case: Case, found: Found) -> Iterator[Figure]:
    """What is told of a case."""
    fast = found.peers[0]
    name, target = case.promised or (f"vs_ray_data_{case.name}", None)
    note = f"{'ViT-B/32' if case.heavy else 'light model'}; {fast} was the fastest of {len(found.peers)} ways with Ray Data"
    yield Figure.of(name, found.ratios(*found.peers), "times", target, note=f"{note}; cosines at least {found.cosine:.4f}")
    yield Figure.of(f"vs_plain_loop_{case.name}", found.ratios(PLAIN), "times")
    for side in (PLAIN, *found.peers, PIPELINE):
        yield Figure.of(f"{_key(side)}_images_per_s_{case.name}", found.rates(side), "images/s")
    for side in (PLAIN, fast, PIPELINE):
        note = "" if side == PLAIN else "in a Ray that runs already"
        yield Figure.of(f"{_key(side)}_first_s_{case.name}", found.first_s[side], "s", lower_is_better=True, note=note)


def measure(cases: Sequence[Case], rounds: int, until: float) -> dict[str, Found]:
    """Rounds of all sides, one after the other in each case; no new round of a case begins after `until` (monotonic seconds).

    Raises:
        RunError: the sides do not agree.
        SettingsError: nginx is needed and not installed.
    """
    found = {case.name: Found() for case in cases}
    with tempfile.TemporaryDirectory() as scratch, _images(Path(scratch), cases) as files, ray_session(None):
        models = {heavy: (vit_b_32 if heavy else light_model)(Path(scratch) / f"{heavy}") for heavy in {c.heavy for c in cases}}
        # The promised ones come first: where time is short, the others do with fewer rounds.
        planned = [(number, case) for number in range(rounds) for case in cases if case.promised or not number]
        planned += [(number, case) for number in range(1, rounds) for case in cases if not case.promised]
        for number, case in planned:
            if number and time.monotonic() > until:
                continue
            outcome = found[case.name]
            sides = {PLAIN: plain_loop, **ray_data_sides(cores(), heavy=case.heavy, remote=case.remote), PIPELINE: pipeline}
            if number:
                sides = {side: run for side, run in sides.items() if side not in outcome.peers[1:]}
            outcome.rounds.append({})
            for side, run in sides.items():
                began = time.monotonic()
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    taken = tuple(files[case.size][: _count(case, side)])
                    bucket = taken[0].parent.name if case.remote else ""
                    outcome.add(side, run(Work(taken, models[case.heavy], Path(folder), case.batch, bucket)))
                _tell(case, side, outcome, time.monotonic() - began)
    return found


@contextlib.contextmanager
def _images(scratch: Path, cases: Sequence[Case]) -> Iterator[dict[tuple[int, int], list[Path]]]:
    """Files of each size, in folders that nginx serves as buckets if a case needs that."""
    root = scratch / "images"
    root.mkdir()
    most = {case.size: 0 for case in cases}
    for case in cases:
        most[case.size] = max(most[case.size], *(_count(case, side) for side in case.images))
    files = {size: write_jpegs(root / f"measured-{size[0]}x{size[1]}", count, size) for size, count in most.items()}
    with contextlib.ExitStack() as stack:
        if any(case.remote for case in cases):
            stack.enter_context(s3_from(stack.enter_context(nginx(root))))
        yield files


def _count(case: Case, side: str) -> int:
    """Images of a run. The plain loop does not grow with the machine."""
    on_two_cores = case.images.get(side, case.images[""])
    return on_two_cores if side == PLAIN else on_two_cores * max(2, min(cores(), MOST_CORES)) // 2


def _key(side: str) -> str:
    return side.lower().replace(",", "").replace(" ", "_")


def _tell(case: Case, side: str, found: Found, seconds: float) -> None:
    rate, first = found.rates(side)[-1], found.first_s[side][-1]
    print(
        f"{case.name}, {side}: {rate:.1f} images/s, first after {first:.1f} s, {seconds:.1f} s in all",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help=f"some of the cases, with commas between: {','.join(case.name for case in CASES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--minutes", type=float, default=4.5, help="after these, no further round begins (%(default)g)")
    parser.add_argument("--quick", action="store_true", help="one round with few images: to see whether it works")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else [case.name for case in CASES if not case.heavy]
    cases = [case for case in CASES if case.name in names]
    if asked.quick:
        cases = [replace(case, images=dict.fromkeys(case.images, 8 * case.batch)) for case in cases]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    missing = []
    if any(case.remote for case in cases):
        try:
            find_nginx()
        except SettingsError as error:
            missing = [Figure(f"vs_ray_data_{case.name}", None, "times", note=str(error)) for case in cases if case.remote]
            cases = [case for case in cases if not case.remote]
    found = measure(cases, 1 if asked.quick else asked.rounds, time.monotonic() + 60 * asked.minutes)
    emit(figure for case in cases for figure in figures(case, found[case.name]))
    emit(missing)


if __name__ == "__main__":
    main()
