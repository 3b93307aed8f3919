"""A process that makes small JPEGs of hostile images: `python -m moderation.studio.picture_process`.

One request per line of standard input, one answer per line of standard output, both JSON. It may be killed at any time.
"""

import json
import os
import sys
from typing import Any, BinaryIO

from moderation.html.thumbnails import Wanted, thumbnails
from moderation.images.limits import ImageLimits
from moderation.sources import ObjectReader

START = b"\x00answer "
"""Stands before each answer: decoders may print whatever they like."""


def request(wanted: list[Wanted], size: int, *, local_files: bool) -> bytes:
    """A line that asks for JPEGs of at most `size` pixels a side. `local_files`: whether files of this machine may be read."""
    return json.dumps({"wanted": wanted, "size": size, "local_files": local_files}).encode() + b"\n"


def answer(line: bytes) -> dict[tuple[str, int], str]:
    """JPEGs as data URIs by URI and frame. Raises `ValueError` on what is no answer."""
    try:
        found = json.loads(line)
        return {(str(uri), int(frame)): str(data) for uri, frame, data in found}
    except (TypeError, KeyError) as error:
        raise ValueError(str(error)) from None


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    for line in questions:
        asked: dict[str, Any] = json.loads(line)
        # Somebody who can write to the results' bucket must not be able to show files of this machine.
        reader = ObjectReader(manifests=True, local_files=bool(asked["local_files"]))
        wanted = [(uri, etag, frame) for uri, etag, frame in asked["wanted"]]
        found = thumbnails(reader, wanted, ImageLimits(), int(asked["size"]))
        answers.write(START + json.dumps([(uri, frame, data) for (uri, frame), data in found.items()]).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    own = os.dup(1)
    os.dup2(2, 1)  # what decoders print must not spoil the answers
    with os.fdopen(own, "wb") as out:
        _serve(sys.stdin.buffer, out)
