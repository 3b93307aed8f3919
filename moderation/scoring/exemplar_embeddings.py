"""Embeddings of exemplars: from beside the results where they are kept, by the model where not."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from moderation.errors import PolicyError
from moderation.model.encoder import Encoder
from moderation.policy.exemplars import Exemplar
from moderation.policy.schema import Policy
from moderation.policy_files.places import AssetError, content
from moderation.records import ObjectRef
from moderation.results.stored_exemplars import keep_exemplars, known_exemplars
from moderation.scoring.decision_rows import Failure
from moderation.scoring.options import ScorerOptions
from moderation.scoring.preparing import Preparer
from moderation.scoring.stage_clock import Clock
from moderation.storage import Store

_PART, _THREADS = 64, 8
"""Exemplars read at a time, and how many read them."""
_LONG_AGO = datetime.fromtimestamp(0, UTC)
Embeddings = Mapping[str, NDArray[np.float16]]
"""Unit embeddings [F, D] of the frames of images, by the SHA-256 of their bytes."""
Embedded = Mapping[str, NDArray[np.float16] | str]
"""The same, or in words why an image cannot be decoded."""
EmbedImages = Callable[[Mapping[str, bytes]], Embedded]
"""Embeds files by the SHA-256 of their bytes."""


def exemplar_embeddings(output: Store, fingerprint: str, policy: Policy, embed: EmbedImages) -> Embeddings:
    """Embeddings of a policy's exemplars, kept with the results. Where some are kept already, those count.

    Raises:
        PolicyError, OutputError: as `embedded_exemplars`.
        StorageError: the output refuses new ones.
    """
    found = embedded_exemplars(output, fingerprint, policy, embed)
    return keep_exemplars(output, fingerprint, found) if found else {}


def embedded_exemplars(output: Store, fingerprint: str, policy: Policy, embed: EmbedImages) -> Embeddings:
    """Embeddings of a policy's exemplars: from the results where they are kept, by the model where not.

    Raises:
        PolicyError: an exemplar is gone, was changed since the policy was read, or cannot be decoded.
        OutputError: stored embeddings cannot be read.
    """
    wanted = policy.assets.images
    if not wanted:
        return {}
    known: Embeddings = known_exemplars(output, fingerprint, wanted)
    missing = {digest: one for digest, one in wanted.items() if digest not in known}
    if missing:
        known = {**known, **embed_exemplars(missing, embed)}
    return {digest: known[digest] for digest in wanted}


def embed_exemplars(exemplars: Mapping[str, Exemplar], embed: EmbedImages) -> Embeddings:
    """Embeddings of exemplars, some of which are in memory at a time. Raises `PolicyError`, as `embedded_exemplars`."""
    found: dict[str, NDArray[np.float16]] = {}
    left = list(exemplars.items())
    with ThreadPoolExecutor(_THREADS, "exemplars") as pool:
        for start in range(0, len(left), _PART):
            part = dict(left[start : start + _PART])
            files = dict(zip(part, pool.map(_content, part.items()), strict=True))
            found |= _usable(embed(files), part)
    return found


def _content(wanted: tuple[str, Exemplar]) -> bytes:
    digest, one = wanted
    if not one.location:
        raise PolicyError(f"the embedding of the exemplar {one.name!r} is not stored, and the place of its image is not known")
    try:
        data = content(one.name, one.location)
    except AssetError as error:
        message = f"the exemplar {one.name!r} cannot be read, and no embedding of it is stored: {error.message}"
        raise PolicyError(f"{message}; name another image, or draw the background again") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise PolicyError(f"the exemplar {one.name!r} is not the image that the policy names by its hash: it was changed")
    return data


def _usable(embedded: Embedded, exemplars: Mapping[str, Exemplar]) -> Embeddings:
    """The embeddings. Raises `PolicyError` that names the exemplars that cannot be decoded."""
    wrong = [f"the exemplar {exemplars[d].name!r} cannot be used: {why}" for d, why in embedded.items() if isinstance(why, str)]
    if wrong:
        raise PolicyError("\n".join(wrong))
    return {digest: vectors for digest, vectors in embedded.items() if not isinstance(vectors, str)}


def embed_images(encoder: Encoder, images: Mapping[str, bytes]) -> Embedded:
    """Embed files, decoded as every image is.

    Args:
        encoder: the model.
        images: files by the SHA-256 of their bytes.
    """
    refs = {digest: ObjectRef(digest, "exemplar", len(data), _LONG_AGO) for digest, data in images.items()}
    preparer = Preparer(encoder.preprocessing, ScorerOptions(), read=lambda ref: images[ref.uri], look_up=refs.__getitem__)
    found: dict[str, NDArray[np.float16] | str] = {}
    with closing(preparer), closing(preparer.prepared(list(refs.values()), Clock())) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                found[outcome.object.uri] = f"{outcome.code.value}: {outcome.detail}"
            else:
                found[outcome.row.sha256] = encoder.encode_images(np.stack(outcome.pixels)).astype(np.float16)
    return found
