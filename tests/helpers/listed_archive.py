"""Published runs under policies with hash lists of every kind, over images of which many are on one. See `archived`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from archived import Image, some_images

from moderation.lists.hash_list import HashKind, HashList, ordered_by_bytes
from moderation.policy.assets import Assets
from moderation.policy.schema import ListedImages, Policy

RANDOM = np.random.default_rng(20)
PDQ = RANDOM.integers(0, 256, (40, 32), np.uint8)
"""hashes of pictures that lists may have"""


def digest(kind: HashKind, number: int) -> str:
    """The hash of the bytes of picture `number`."""
    return f"{number + 1:0{2 * kind.size}x}"


def flipped(entry: np.ndarray, bits: int, seed: int) -> str:
    """A PDQ, hex digits, with so many bits turned."""
    found = np.unpackbits(entry)
    found[np.random.default_rng(seed).permutation(256)[:bits]] ^= 1
    digits: str = np.packbits(found).tobytes().hex()
    return digits


def with_hashes(images: Sequence[Image], seed: int) -> list[Image]:
    """The same images with hashes: about half lie near one of the 40 pictures, a third have bytes that lists may have."""
    random = np.random.default_rng(seed)
    made = []
    for image in images:
        frames = 1 if image.frames is None else len(image.frames)
        hashes = []
        for _ in range(frames):
            near = random.random() < 0.35
            entry = PDQ[random.integers(40)] if near else random.integers(0, 256, 32, np.uint8)
            hash_ = flipped(entry, int(random.integers(0, 36)), int(random.integers(1 << 30)))
            hashes.append((hash_, int(random.integers(30, 101))))
        number = int(random.integers(60)) if random.random() < 0.35 else 1_000_000 + int(random.integers(1 << 30))
        made.append(
            replace(
                image,
                sha256=digest(HashKind.SHA256, number),
                md5=digest(HashKind.MD5, number),
                hashes=tuple(hashes) if image.frames is not None else (),
            )
        )
    return made


def hash_list(kind: HashKind, hashes: Sequence[str], labels: Sequence[str] = ()) -> HashList:
    """A list of these hex digits."""
    found = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, kind.size)
    order = ordered_by_bytes(found)
    given = pa.array(list(labels) or [""] * len(hashes), pa.large_string())
    return HashList(kind, found[order], given.take(pa.array(order)))


def pictures(first: int, end: int) -> HashList:
    """A PDQ list of some of the 40 pictures."""
    numbers = range(first, end)
    return hash_list(HashKind.PDQ, [PDQ[n].tobytes().hex() for n in numbers], [f"picture {n}" for n in numbers])


def files(kind: HashKind, first: int, end: int) -> HashList:
    """A list of the bytes of some pictures."""
    return hash_list(kind, [digest(kind, n) for n in range(first, end)])


def listed(policy: Policy, *lists: tuple[Mapping[str, Any], HashList]) -> Policy:
    """A policy with lists: settings (`file` and `hash` are filled in) and content."""
    settings = [ListedImages.model_validate({"file": "list.txt", "hash": content.kind.value, **one}) for one, content in lists]
    content = {one.id: found for one, (_, found) in zip(settings, lists, strict=True)}
    found = policy.model_copy(update={"lists": tuple(settings)})
    return found.with_assets(Assets(lists=content))


def old_policy(policy: Policy) -> Policy:
    """Lists as they were."""
    return listed(
        policy,
        ({"id": "known", "action": "block", "severity": "critical", "category": "known"}, pictures(0, 8)),
        ({"id": "brand", "action": "allow", "severity": "high"}, files(HashKind.SHA256, 0, 15)),
        ({"id": "seen", "action": "review", "mode": "shadow"}, files(HashKind.MD5, 10, 30)),
    )


def new_policy(policy: Policy) -> Policy:
    """Lists as they are to be: others, changed ones, one that acts now, one that must not be seen."""
    return listed(
        policy,
        ({"id": "known", "action": "block", "severity": "critical", "distance": 12, "min_quality": 70}, pictures(0, 8)),
        ({"id": "secret", "action": "block", "severity": "low", "restricted": True, "turned": True}, pictures(8, 12)),
        ({"id": "brand", "action": "allow", "severity": "critical"}, files(HashKind.SHA256, 5, 25)),
        ({"id": "seen", "action": "review"}, files(HashKind.MD5, 10, 30)),
        ({"id": "trial", "action": "block", "mode": "shadow", "restricted": True}, files(HashKind.SHA256, 30, 45)),
    )


def listed_images(count: int, seed: int, errors: float = 0.2) -> list[Image]:
    """Images with hashes."""
    return with_hashes(some_images(count, seed, errors), seed)
