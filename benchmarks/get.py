"""Small objects, fetched by the pipeline's `Store` and by boto3, from the same nginx: `python -m benchmarks.get`.

`Store` as the actors use it: threads that read objects at the version that was listed. boto3 as its guides advise: one client
for all threads, with a pool of as many connections. Each with several numbers of threads, of which its best counts. nginx
needs CPU as well, on the same machine; the CPU time is that of the clients alone.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import boto3
import obstore
from botocore.config import Config
from obstore.store import S3Store

from benchmarks.figures import Figure, emit
from benchmarks.nginx import etag, find_nginx, nginx, s3_from
from moderation.errors import SettingsError
from moderation.records import ObjectRef
from moderation.sources import ObjectReader
from moderation.storage import Store

BYTES, OBJECTS = 36_000, 256
THREADS = (8, 16, 32)
ROUNDS, TARGET = 5, 8.0
BUCKET = "measured"
OURS, PEER, RAW = "Store", "boto3", "obstore, async"
PASSES = {OURS: 8, PEER: 1, RAW: 8}
"""How often a round fetches all objects: about half a second's work."""


@dataclass(frozen=True)
class Client:
    """One way to fetch."""

    side: str
    threads: int
    fetch: Callable[[Sequence[ObjectRef]], int]
    """fetches objects and returns how many bytes came"""


@dataclass(frozen=True)
class Round:
    """What one client did in one round."""

    per_s: float
    """GETs per second"""
    cpu_ms: float
    """milliseconds of this process's CPU time for each"""


def clients(endpoint: str) -> list[Client]:
    """All that are compared, none connected yet."""
    return [
        *(Client(OURS, threads, _threaded(threads, _store(threads))) for threads in THREADS),
        *(Client(PEER, threads, _threaded(threads, _boto3(threads))) for threads in THREADS),
        Client(RAW, max(THREADS), _asynchronous(endpoint, max(THREADS))),
    ]


def measure(refs: Sequence[ObjectRef], known: Sequence[Client], rounds: int) -> dict[Client, list[Round]]:
    """Let the clients fetch in turn, after once to connect. Raises `ValueError` if bytes are missing."""
    found: dict[Client, list[Round]] = {client: [] for client in known}
    for number in range(rounds + 1):
        for client, its_rounds in found.items():
            passes = PASSES[client.side] if number else 1
            cpu, wall = time.process_time(), time.perf_counter()
            fetched = client.fetch([*refs] * passes)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if fetched != passes * sum(ref.size for ref in refs):
                raise ValueError(f"{client.side} fetched {fetched} bytes")
            if number:
                count = passes * len(refs)
                its_rounds.append(Round(count / wall, cpu / count * 1e3))
                print(f"{client.side}, {client.threads}: {its_rounds[-1]}", file=sys.stderr, flush=True)
    return found


def figures(found: dict[Client, list[Round]]) -> Iterator[Figure]:
    """The ratio, and each side's own."""
    best = {side: _best(found, side) for side in (OURS, PEER, RAW)}
    rounds = {side: found[client] for side, client in best.items()}
    at = f"{OURS} with {best[OURS].threads} threads, {PEER} with {best[PEER].threads}, the best of each"
    ratios = [ours.per_s / peer.per_s for ours, peer in zip(rounds[OURS], rounds[PEER], strict=True)]
    yield Figure.of("get_vs_boto3", ratios, "times", TARGET, note=f"objects of {BYTES // 1000} kB; {at}")
    for side, key in ((OURS, "store"), (PEER, "boto3"), (RAW, "obstore_async")):
        yield Figure.of(f"get_per_s_{key}", [each.per_s for each in rounds[side]], "GETs/s")
        yield Figure.of(f"get_cpu_ms_{key}", [each.cpu_ms for each in rounds[side]], "ms", lower_is_better=True)


def _best(found: dict[Client, list[Round]], side: str) -> Client:
    medians = {c: statistics.median(each.per_s for each in rounds) for c, rounds in found.items() if c.side == side}
    return max(medians, key=medians.__getitem__)


def _store(threads: int) -> Callable[[ObjectRef], bytes]:
    return ObjectReader(folders=(Store(f"s3://{BUCKET}", threads),), connections=threads).read


def _boto3(threads: int) -> Callable[[ObjectRef], bytes]:
    client = boto3.client("s3", config=Config(max_pool_connections=threads))

    def fetch(ref: ObjectRef) -> bytes:
        key = ref.uri.removeprefix(f"s3://{BUCKET}/")
        body: bytes = client.get_object(Bucket=BUCKET, Key=key, IfMatch=f'"{ref.etag}"')["Body"].read()
        return body

    return fetch


def _threaded(threads: int, fetch: Callable[[ObjectRef], bytes]) -> Callable[[Sequence[ObjectRef]], int]:
    def fetch_all(refs: Sequence[ObjectRef]) -> int:
        with ThreadPoolExecutor(threads) as pool:
            return sum(map(len, pool.map(fetch, refs)))

    return fetch_all


def _asynchronous(endpoint: str, at_a_time: int) -> Callable[[Sequence[ObjectRef]], int]:
    store = S3Store(BUCKET, endpoint=endpoint, region="us-east-1", skip_signature=True, client_options={"allow_http": True})

    async def fetch_all(refs: Sequence[ObjectRef]) -> int:
        free = asyncio.Semaphore(at_a_time)

        async def fetch(ref: ObjectRef) -> int:
            async with free:
                key = ref.uri.removeprefix(f"s3://{BUCKET}/")
                answer = await obstore.get_async(store, key, options={"if_match": f'"{ref.etag}"'})
                return len(await answer.bytes_async())

        return sum(await asyncio.gather(*map(fetch, refs)))

    return lambda refs: asyncio.run(fetch_all(refs))


def write_objects(folder: Path, count: int, size: int) -> list[ObjectRef]:
    """Files of random bytes under `folder`, as a listing of S3 would give them."""
    bucket = folder / BUCKET
    bucket.mkdir()
    refs = []
    for number in range(count):
        path = bucket / f"{number:06}.jpg"
        path.write_bytes(os.urandom(size))
        changed = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
        refs.append(ObjectRef(f"s3://{BUCKET}/{path.name}", etag(path), size, changed))
    return refs


def main() -> None:
    """Print the figures."""
    try:
        find_nginx()
    except SettingsError as error:
        emit([Figure("get_vs_boto3", None, "times", TARGET, note=str(error))])
        return
    with tempfile.TemporaryDirectory() as folder:
        refs = write_objects(Path(folder), OBJECTS, BYTES)
        with nginx(Path(folder)) as endpoint, s3_from(endpoint):
            emit(figures(measure(refs, clients(endpoint), ROUNDS)))


if __name__ == "__main__":
    main()
