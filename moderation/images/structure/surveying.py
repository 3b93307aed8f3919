"""The survey of a file, by its first bytes."""

from moderation.images.guarding import Deadline
from moderation.images.structure.gif import survey_gif
from moderation.images.structure.isobmff import BRANDS, survey_boxes
from moderation.images.structure.jpeg import survey_jpeg
from moderation.images.structure.png import survey_png
from moderation.images.structure.survey import Survey
from moderation.images.structure.tiff import PREFIXES, survey_tiff
from moderation.images.structure.webp import survey_webp


def survey_file(data: bytes, deadline: Deadline) -> Survey:
    """What the bytes say. Raises `ImageError`: corrupt, out of all proportion; worker_timeout."""
    if data.startswith(b"\xff\xd8\xff"):
        return survey_jpeg(data)
    if data.startswith(b"\x89PNG"):
        return survey_png(data, deadline)
    if data.startswith(b"GIF8"):
        return survey_gif(data, deadline)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return survey_webp(data)
    if data.startswith(PREFIXES):
        return survey_tiff(data, deadline)
    if data[4:8] == b"ftyp" and data[8:12] in BRANDS:
        return survey_boxes(data, deadline)
    return Survey()
