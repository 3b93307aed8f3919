"""From what is looked for to unit vectors in the space of the stored embeddings."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.common.safe_text import visible
from moderation.errors import ImageError, SettingsError, StorageError
from moderation.images.decoding import DecodedImage
from moderation.images.limits import ImageLimits
from moderation.model.encoder import Encoder
from moderation.policy.model_choice import ModelChoice
from moderation.results.archive import Archive
from moderation.scoring.prompt_embeddings import archive_encoder, embedded_texts
from moderation.storage import Store, file_uri

Queries = NDArray[np.float64]
"""[Q, D] unit vectors: an image's score is the highest of its cosines with them"""


def text_query(archive: Archive, model: ModelChoice, text: str) -> Queries:
    """A text as it is, without a template, as [1, D].

    torch is imported only if the text is no prompt whose embedding is stored. It is not stored: others would read it with
    their prompts.

    Raises:
        SettingsError: the text is empty, or the model here is not the one that made the archive.
        ModelError: the model cannot be loaded, or the text is too long for it.
        OutputError: stored prompt embeddings cannot be read.
    """
    if not text.strip():
        raise SettingsError("the text to search for is empty: say what the image should show, such as: a red car")
    head = embedded_texts(archive, model, [text], keep=False)
    return _unit(head.texts[text][None, :])


def image_query(archive: Archive, model: ModelChoice, location: str, limits: ImageLimits | None = None) -> Queries:
    """An image, by path or URI, with all frames that a run would look at, as [frames, D].

    Raises:
        SettingsError: it cannot be read, or the model here is not the one that made the archive.
        ModelError: the model cannot be loaded.
    """
    limits = limits or ImageLimits()
    data = _read(location, limits)
    return picture_query(archive_encoder(archive, model), data, f"the image {visible(location)!r}", limits)


def picture_query(encoder: Encoder, data: bytes, name: str, limits: ImageLimits | None = None) -> Queries:
    """The bytes of an image, with all frames that a run would look at, as [frames, D]. `name`: what messages call it.

    Raises:
        SettingsError: it cannot be decoded.
    """
    prepare = encoder.preprocessing
    try:
        image = DecodedImage(data, limits or ImageLimits(), prepare.size)
        pixels = [prepare(frame, image.reduction, image.colours) for _, frame in image.frames()]
    except ImageError as error:
        raise SettingsError(f"cannot search for {name}: {error}") from None
    # In float16, as stored: an image matches its own embedding exactly.
    return _unit(encoder.encode_images(np.stack(pixels)).astype(np.float16))


def _read(location: str, limits: ImageLimits) -> bytes:
    shown = visible(location)
    try:
        uri = location if "://" in location else file_uri(str(Path(location).expanduser().resolve()))
        store, key = Store.locate(uri)
        found = store.head(key)
        if found.size > limits.max_bytes:
            raise SettingsError(f"the image {shown!r} has {found.size:,} bytes; the limit is {limits.max_bytes:,}")
        return store.read(found)
    except StorageError as error:
        raise SettingsError(f"cannot read the image {shown!r}: {error.detail}") from None
    except (ValueError, RuntimeError, OSError) as error:  # a null byte, an unknown ~user, links in a circle
        raise SettingsError(f"cannot read the image {shown!r}: {visible(str(error))}") from None


def _unit(vectors: NDArray[np.float32] | NDArray[np.float16]) -> Queries:
    doubles = vectors.astype(np.float64)
    found: Queries = doubles / np.linalg.norm(doubles, axis=1, keepdims=True)
    return found
