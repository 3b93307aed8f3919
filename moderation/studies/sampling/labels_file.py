"""The CSV that a person fills in, and `moderate policy tune` reads."""

import csv
import hashlib
import io

import numpy as np

from moderation.studies.sampling.sample_result import Sample, SampledImage

COLUMNS = ("uri", "rule", "stratum", "weight", "score", "label")
_END = "\r\n"


def saved_name(rule: str) -> str:
    """What the page calls the file that it saves."""
    return f"{rule}-labels.csv"


def header() -> str:
    """The first line."""
    return _line(COLUMNS)


def unlabelled(rule: str, image: SampledImage) -> str:
    """The line of an image up to its label, which comes next, without quotes."""
    score = float(str(np.float32(image.score)))
    return _line((image.uri, rule, image.stratum, image.weight, score)).removesuffix(_END) + ","


def labels_csv(sample: Sample) -> str:
    """The whole file, without labels.

    RFC 4180, every text in quotes, so that it also works where semicolons separate cells. URIs are written unchanged:
    they begin with a scheme, and so no spreadsheet takes one for a formula.
    """
    return header() + "".join(unlabelled(sample.rule.id, image) + _END for image in sample.images)


def identity(csv_text: str) -> str:
    """A short name for this very sample."""
    return hashlib.sha256(csv_text.encode()).hexdigest()[:16]


def _line(cells: tuple[str | float, ...]) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator=_END).writerow(cells)
    return out.getvalue()
