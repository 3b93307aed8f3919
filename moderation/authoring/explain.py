"""Decides single images under a policy and says why: what `policy explain` and `policy test` work with. No Ray, no flow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.demo import SCHEME, picture
from moderation.errors import ErrorCode, SourceError, StorageError
from moderation.lists.lookup import ImageHashes
from moderation.model.encoder import Encoder
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy.explanation import Explanation, explain, unreadable
from moderation.policy.schema import Policy
from moderation.records import ObjectRef
from moderation.scoring.image_scorer import ImageScorer
from moderation.storage import Store, file_uri


def load_encoder(policy: Policy) -> Encoder:
    """The model that the policy names, on a GPU if there is one. Raises `ModelError`."""
    return OpenClipEncoder.of(policy.model)


def explain_images(
    policy: Policy, encoder: Encoder, images: Sequence[str], folder: Path | None = None
) -> tuple[Explanation, ...]:
    """Explain the decision on each image, in order, with the scores that the pipeline would store.

    Args:
        policy: what decides.
        encoder: the policy's model.
        images: paths or URIs. One that cannot be read becomes an explanation with an error code.
        folder: what relative paths are relative to; default: the current folder.

    Raises:
        PolicyError, ModelError: policy and model do not fit.
    """
    refs = [_reference(policy, image, folder or Path()) for image in images]
    wanted = {ref.uri: ref for ref in refs if isinstance(ref, ObjectRef)}
    with ImageScorer(encoder, policy) as scorer:
        scored = scorer.score(list(wanted.values()))
        compiled = scorer.context.compiled
    found = {}
    wanted_columns = ["uri", "etag", "frames", "error_code", "error_detail", "sha256", "md5"]
    for row in scored.decisions.select(wanted_columns).to_pylist():
        uri, etag = row["uri"], row["etag"]
        sha256, md5 = (pa.array([row[name]], pa.string()) for name in ("sha256", "md5"))
        if row["error_code"] is not None:
            hashes = ImageHashes.of_bytes(sha256, md5)
            found[uri] = unreadable(policy, uri, row["error_code"], row["error_detail"], etag, hashes=hashes)
            continue
        rows = scored.embeddings.filter(pc.equal(scored.embeddings["uri"], pa.scalar(uri)))
        vectors, frames = _vectors(rows), rows["frame"].to_pylist()
        starts = np.array([0, len(frames)], np.int64)
        hashes = ImageHashes(sha256, md5, rows["pdq"], rows["pdq_quality"], starts, rows["frame"].to_numpy())
        found[uri] = explain(compiled, vectors, frames, uri=uri, etag=etag, frame_count=row["frames"], hashes=hashes)
    return tuple(ref if isinstance(ref, Explanation) else found[ref.uri] for ref in refs)


MOST_IMAGES = 500
"""A folder with more objects than this is explained up to here: `explain` is for looking, and a run for everything."""


def expand(images: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The images that are meant by paths and URIs of which some are folders.

    Returns:
        The images, those of a folder in the order of their names, hidden files left out; and the folders of which only the
        first `MOST_IMAGES` are among them.

    Raises:
        SourceError: a folder without files, or one that cannot be listed.
    """
    found: list[str] = []
    cut: list[str] = []
    for image in images:
        if not _is_folder(image):
            found.append(image)
            continue
        inside: list[str] = []
        try:
            store = Store(image)
            for page in store.list():
                inside += [item.uri for item in page if not _hidden(store.key_of(item.uri))]
                if len(inside) > MOST_IMAGES:
                    cut.append(image)
                    break
        except StorageError as error:
            raise SourceError(f"cannot list the folder {image!r}: {error.detail}") from None
        if not inside:
            raise SourceError(f"the folder {image!r} contains no files: name images, or a folder of images")
        found += [uri.removeprefix("file://") for uri in inside[:MOST_IMAGES]]
    return tuple(found), tuple(cut)


def _is_folder(location: str) -> bool:
    if "://" in location and not location.startswith("file://"):
        return location.endswith("/") and not location.startswith(SCHEME)
    try:
        return Path(location.removeprefix("file://")).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def _hidden(key: str) -> bool:
    return any(part.startswith(".") for part in key.split("/"))


def _vectors(rows: pa.Table) -> NDArray[np.float16]:
    flat: NDArray[np.float16] = rows["embedding"].combine_chunks().flatten().to_numpy()
    return flat.reshape(len(rows), -1)


def _reference(policy: Policy, location: str, folder: Path) -> ObjectRef | Explanation:
    """The image from storage, or the reason why it is not available."""
    try:
        if location.startswith(SCHEME):
            location = str(picture(location))
        if "://" not in location:
            location = file_uri(str((folder / Path(location).expanduser()).resolve()))
        location.encode()
    except UnicodeEncodeError:
        return unreadable(policy, ascii(location), ErrorCode.NOT_FOUND, "a URI must be UTF-8: give the path, or escape it")
    except (ValueError, RuntimeError, OSError) as error:  # a null byte, an unknown ~user, links in a circle
        return unreadable(policy, location, ErrorCode.NOT_FOUND, str(error))
    try:
        store, key = Store.locate(location)
        return store.head(key)
    except StorageError as error:
        return unreadable(policy, location, error.code, error.detail)
