"""What memory an actor takes beside its model: `python -m benchmarks.actor_memory`.

Pictures of 12 megapixels through one `ImageScorer` as an actor has it: 16 fetch threads, batches from two threads at a time.
The model is the bundled one, so that decoding is what there is to do. Each measurement runs in a process of its own, and
counts from when the model has seen its first pictures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.figures import Figure, emit
from benchmarks.images import LARGE, SMALL, write_jpegs
from moderation.cluster.slots import IN_FLIGHT
from moderation.demo import POLICY_FILE
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy_files.loading import load_policy
from moderation.records import ObjectRef
from moderation.scoring.image_scorer import ImageScorer
from moderation.scoring.options import ScorerOptions

TARGET_GB = 1.5
FETCH_THREADS, BATCH = 16, 256
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def measure(folder: Path, count: int, decode_threads: int) -> float:
    """Gigabytes at the peak of scoring `count` pictures, over those before."""
    files = [path.read_bytes() for path in sorted((folder / "large").iterdir())]
    encoder = OpenClipEncoder("demo", device="cpu")

    def read(ref: ObjectRef) -> bytes:
        number = int(ref.etag)
        return files[number % len(files)] + number.to_bytes(4, "big")  # as many different objects

    with ImageScorer(
        encoder, load_policy(POLICY_FILE), ScorerOptions(fetch_threads=FETCH_THREADS, decode_threads=decode_threads), read=read
    ) as scorer:
        with ImageScorer(encoder, scorer.context.compiled) as first:
            first.score(sorted((folder / "small").iterdir()))
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        refs = [ObjectRef(f"s3://shop/{n:06}.jpg", str(n), len(files[0]) + 4, NOW) for n in range(count)]
        batches = iter([refs[start : start + BATCH] for start in range(0, count, BATCH)])
        _score(scorer, batches)
    return (_resident("VmHWM") - before) / 1e6


def _score(scorer: ImageScorer, batches: Iterator[list[ObjectRef]]) -> None:
    """`IN_FLIGHT` batches at a time, as the pool gives them to an actor."""
    taking = threading.Lock()
    failed: list[str] = []

    def work() -> None:
        while True:
            with taking:
                batch = next(batches, None)
            if batch is None:
                return
            failed.extend(code for code in scorer.score(batch).decisions["error_code"].to_pylist() if code)

    threads = [threading.Thread(target=work) for _ in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"{len(failed)} pictures failed: {failed[0]}")


def _resident(what: str) -> int:
    """Kilobytes of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def in_a_process(folder: Path, count: int, decode_threads: int) -> float:
    """The same, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.actor_memory", "--images", str(count)]
    command += ["--only", str(decode_threads), "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: float = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300, help="pictures to a measurement; what is promised is for 10,000")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few pictures, once")
    parser.add_argument("--only", type=int, help="measure with so many decode threads, in this process")
    parser.add_argument("--folder", type=Path, help="where the pictures are")
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(measure(asked.folder, asked.images, asked.only)))
        return
    if not Path("/proc/self/clear_refs").exists():
        emit([Figure("actor_memory_gb", None, "GB", TARGET_GB, lower_is_better=True, note="not measured: needs Linux")])
        return
    images, repetitions = (32, 1) if asked.quick else (asked.images, asked.repetitions)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_jpegs(folder / "large", 4, LARGE)
        write_jpegs(folder / "small", 64, SMALL)
        for name, threads in (("actor_memory_gb", os.cpu_count() or 1), ("actor_memory_16_decode_threads_gb", 16)):
            found = [in_a_process(folder, images, threads) for _ in range(repetitions)]
            print(f"{name}: {found}", file=sys.stderr)
            note = f"{images:,} pictures of 12 megapixels, {threads} decode threads"
            emit([Figure.of(name, found, "GB", TARGET_GB, lower_is_better=True, note=note)])


if __name__ == "__main__":
    main()
