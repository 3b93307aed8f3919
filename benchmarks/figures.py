"""What a benchmark found: one `Figure` for each thing measured, printed as a line of JSON."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One thing that was measured. A `value` of None: it could not be measured here, and `note` says why."""

    name: str
    value: float | None
    """the median of the runs"""
    unit: str
    target: float | None = None
    """what the project promises; None: a figure for orientation"""
    min: float | None = None
    max: float | None = None
    runs: int = 0
    lower_is_better: bool = False
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        values: Sequence[float],
        unit: str,
        target: float | None = None,
        *,
        lower_is_better: bool = False,
        note: str = "",
    ) -> "Figure":
        """Median and spread of repeated measurements."""
        return cls(name, statistics.median(values), unit, target, min(values), max(values), len(values), lower_is_better, note)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without a target, or if nothing was measured."""
        if self.value is None or self.target is None:
            return None
        return self.value <= self.target if self.lower_is_better else self.value >= self.target


def emit(figures: Iterable[Figure]) -> None:
    """Print figures as JSON, one to a line, for `benchmarks/__main__.py` to gather."""
    for figure in figures:
        print(json.dumps(asdict(figure), ensure_ascii=False), flush=True)
