"""How the demo's decisions compare with its labels."""

import csv
from dataclasses import dataclass

import pyarrow as pa

from moderation.demo import LABELS_FILE


@dataclass(frozen=True)
class Accuracy:
    """Flagged or not, over the images that could be read; and whether the broken ones were found out."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    errors_expected: int
    errors_found: int
    """broken images with the error code that their label names"""

    @property
    def precision(self) -> float:
        """Of the flagged images, the share that should be; 1 where none is flagged."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Of the images that should be flagged, the share that is; 1 where none should be."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)


def measure(decisions: pa.Table, images_uri: str) -> Accuracy:
    """Compare decisions on the bundled images under `images_uri` with `labels.csv`."""
    rows = {row["uri"][len(images_uri) + 1 :]: row for row in decisions.select(["uri", "flagged", "error_code"]).to_pylist()}
    cells = {(expected, found): 0 for expected in (True, False) for found in (True, False)}
    errors_expected = errors_found = 0
    with open(LABELS_FILE, encoding="utf-8", newline="") as file:
        for label in csv.DictReader(file):
            row = rows.get(label["file"])
            if row is None:
                continue
            if label["expect"] == "error":
                errors_expected += 1
                errors_found += row["error_code"] == label["error_code"]
            elif row["error_code"] is None:
                cells[label["expect"] == "flagged", row["flagged"]] += 1
    return Accuracy(
        true_positives=cells[True, True],
        false_positives=cells[False, True],
        false_negatives=cells[True, False],
        true_negatives=cells[False, False],
        errors_expected=errors_expected,
        errors_found=errors_found,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
