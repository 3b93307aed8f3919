"""The loop that everybody writes first: one process, one batch after the other, open_clip and nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
import pyarrow.parquet as pq
import torch
from botocore.config import Config

from benchmarks.peers.clip import Clip, opened, rows
from benchmarks.peers.work import Work

THREADS = 16


def run(work: Work) -> None:
    """Do the work, in this process, on as many threads as torch takes by itself."""
    clip = Clip(work.model)
    writer: pq.ParquetWriter | None = None
    for names, images in _batches(work):
        pixels = torch.stack([clip.preprocess(opened(image)) for image in images])
        table = rows(names, clip(pixels))
        writer = writer or pq.ParquetWriter(work.rows / "rows.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _batches(work: Work) -> Iterator[tuple[list[str], list[str] | list[bytes]]]:
    images = work.images
    parts = [images[start : start + work.batch] for start in range(0, len(images), work.batch)]
    if not work.bucket:
        yield from ((names, names) for names in parts)
        return
    client = boto3.client("s3", config=Config(max_pool_connections=THREADS))

    def fetch(uri: str) -> bytes:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    with ThreadPoolExecutor(THREADS) as threads:
        for names in parts:
            yield names, list(threads.map(fetch, names))
