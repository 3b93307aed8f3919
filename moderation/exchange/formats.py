"""The files of other tools that reviews travel in. Nothing is imported here."""

from enum import StrEnum


class Format(StrEnum):
    """Whose file it is."""

    CSV = "csv"
    LABEL_STUDIO = "label-studio"
    FIFTYONE = "fiftyone"
