"""Thumbnails without Ray: made in a separate process, since the images are hostile."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from moderation.html.thumbnails import SIZE, Wanted, thumbnails
from moderation.images.limits import ImageLimits
from moderation.sources import ObjectReader
from moderation.storage import Store

GROUP = 64
"""Images whose thumbnails are made in one process."""
TIMEOUT_S = 120.0
_KIND = "data:image/jpeg;base64,"


def previews(
    reader: ObjectReader,
    images: Sequence[Wanted],
    limits: ImageLimits | None = None,
    timeout_s: float = TIMEOUT_S,
    size: int = SIZE,
) -> dict[tuple[str, int], str]:
    """JPEGs as data URIs, by URI and frame. Missing are images that cannot be read, are replaced by now, or kill their reader.

    Args:
        reader: what may be read.
        images: URI, ETag and frame of each.
        limits: what is too much of an image.
        timeout_s: seconds that one process may take.
        size: pixels of the longer side, at most.
    """
    wanted = sorted(set(images))
    made: dict[tuple[str, int], str] = {}
    for start in range(0, len(wanted), GROUP):
        made |= _made(reader, wanted[start : start + GROUP], limits or ImageLimits(), timeout_s, size)
    return made


def _made(
    reader: ObjectReader, wanted: Sequence[Wanted], limits: ImageLimits, timeout_s: float, size: int
) -> dict[tuple[str, int], str]:
    """If the process dies, halves are tried, down to the image that kills it; if it is too slow, its images do without."""
    found = _asked(_request(reader, wanted, limits, size), timeout_s)
    if found is not None:
        places = {(uri, frame) for uri, _, frame in wanted}
        return {(uri, frame): data for uri, frame, data in found if (uri, frame) in places and data.startswith(_KIND)}
    if len(wanted) <= 1:
        return {}
    middle = len(wanted) // 2
    first, second = wanted[:middle], wanted[middle:]
    return _made(reader, first, limits, timeout_s, size) | _made(reader, second, limits, timeout_s, size)


def _request(reader: ObjectReader, wanted: Sequence[Wanted], limits: ImageLimits, size: int) -> bytes:
    folders = [folder.uri for folder in reader.folders]
    content = {
        "reader": {**asdict(replace(reader, folders=())), "folders": folders},
        "wanted": wanted,
        "limits": limits.model_dump(),
        "size": size,
    }
    return json.dumps(content).encode()


def _asked(request: bytes, timeout_s: float) -> list[tuple[str, int, str]] | None:
    """The other process's answer: empty if it takes too long, None if it dies or answers nonsense."""
    command = [sys.executable, "-P", "-m", "moderation.html.previews"]
    try:
        answer = subprocess.run(  # noqa: S603 - this very program
            command, input=request, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout_s, check=True
        ).stdout
        return [(str(uri), int(frame), str(data)) for uri, frame, data in json.loads(answer.rpartition(b"\n")[2])]
    except subprocess.TimeoutExpired:
        return []  # decoding has its own limit: it is the storage that is slow, and would be again
    except (subprocess.SubprocessError, ValueError, TypeError):
        return None


def _serve() -> None:
    """Answer one request, from standard input to standard output, both JSON."""
    answer = os.dup(1)
    os.dup2(2, 1)  # decoders that print must not spoil the answer
    request = json.load(sys.stdin)
    reader = ObjectReader(**{**request["reader"], "folders": tuple(Store(uri) for uri in request["reader"]["folders"])})
    wanted = [(uri, etag, frame) for uri, etag, frame in request["wanted"]]
    found = thumbnails(reader, wanted, ImageLimits(**request["limits"]), int(request["size"]))
    made = [(uri, frame, data) for (uri, frame), data in found.items()]
    with os.fdopen(answer, "w", encoding="ascii") as out:
        out.write("\n" + json.dumps(made))  # on a line of its own, whatever Python's start-up printed


if __name__ == "__main__":
    _serve()
