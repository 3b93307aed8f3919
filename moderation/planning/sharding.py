"""From a stream of objects to shards named by their content."""

import hashlib
from collections.abc import Iterable, Iterator

from moderation.records import Batch, ObjectRef, Shard


def shards(objects: Iterable[ObjectRef], size: int) -> Iterator[Shard]:
    """Cut a stream into shards of `size` objects; the last one may be smaller. Holds one shard in memory."""
    held: list[ObjectRef] = []
    for item in objects:
        held.append(item)
        if len(held) == size:
            yield Shard(shard_name(held), tuple(held))
            held = []
    if held:
        yield Shard(shard_name(held), tuple(held))


def shard_name(objects: Iterable[ObjectRef]) -> str:
    """16 hex digits of the SHA-256 over URIs and ETags."""
    digest = hashlib.sha256()
    for item in objects:
        digest.update(f"{item.uri}\0{item.etag}\0".encode())
    return digest.hexdigest()[:16]


def batches(shard: Shard, size: int) -> list[Batch]:
    """A shard cut into batches of `size` objects."""
    objects = shard.objects
    return [Batch(shard.name, objects[i : i + size]) for i in range(0, len(objects), size)]
