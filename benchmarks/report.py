"""`results.json` and `RESULTS.md` of figures: what is promised first, whether it was measured or not, then all the others."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path

from benchmarks.figures import Figure

BY_HAND = "<!-- Written by hand from here on: `make bench` keeps it. -->"
"""What stands behind this line in a RESULTS.md is kept when it is written again."""
NOT_RUN = "`make bench` has not come to it"


@dataclass(frozen=True)
class Promise:
    """What the design promises: section 9."""

    name: str
    what: str
    target: float
    unit: str = ""
    lower_is_better: bool = False

    def missing(self, reason: str) -> Figure:
        """The figure of what could not be measured."""
        return Figure(self.name, None, self.unit, self.target, lower_is_better=self.lower_is_better, note=reason)


PROMISES = (
    Promise("pipeline_over_limit", "steady state of the pipeline over its own limit, measured bare in the same run", 0.85),
    Promise("vs_ray_data_500x375", "against an idiomatic Ray Data pipeline, 500×375, steady state", 2.2, "times"),
    Promise("vs_plain_loop_500x375", "against a plain loop over open_clip, 500×375, steady state", 2, "times"),
    Promise("vs_ray_data_12mp", "against an idiomatic Ray Data pipeline, 12 megapixels, steady state", 3, "times"),
    Promise("decode_500x375_vs_pillow", "decoding and resizing a 500×375 JPEG, against Pillow", 2, "times"),
    Promise("decode_12mp_vs_pillow", "decoding a 12-megapixel JPEG, against full Pillow decode", 5, "times"),
    Promise("get_vs_boto3", "GETs of small objects per process, against boto3 threads", 8, "times"),
    Promise("redecide_images_per_s", "deciding again from stored embeddings, Parquet in and out", 300_000, "images/s"),
    Promise("driver_memory_growth_mb", "driver memory from 10,000 to 1,000,000 listed objects", 150, "MB", True),  # noqa: FBT003
    Promise("driver_us_per_image", "driver CPU per image, stub scorer", 8, "µs", True),  # noqa: FBT003
    Promise("driver_two_workers_over_one", "images/s of one driver with two stub workers, over those with one", 1.7, "times"),
    Promise(
        "cpu_vit_b32_vs_fp32", "ViT-B/32 in bf16 on a CPU with AVX-512-BF16 or AMX, pipeline, against fp32 eager", 2.5, "times"
    ),
    Promise("cpu_vit_b32_int8_vs_fp32", "ViT-B/32 in int8 on a CPU with VNNI, pipeline, against fp32 eager", 4, "times"),
    Promise("list_match_1m_s", "1,000,000 stored hashes against a list of 1,000,000", 180, "s", True),  # noqa: FBT003
    Promise("list_match_us_per_image", "a list of 1,000,000, CPU per image", 20, "µs", True),  # noqa: FBT003
    Promise("review_queue_page_s", "a page of a review queue, 10,000,000 decisions", 1, "s", True),  # noqa: FBT003
    Promise("effective_decisions_count_s", "counting 10,000,000 effective decisions", 10, "s", True),  # noqa: FBT003
    Promise("gpu_encode_over_bare", "one GPU: encode rate over the bare model's", 0.95),
    Promise("gpu_end_to_end_over_bare", "one GPU: end to end over the bare model, decode hidden", 0.90),
)
NAMES = tuple(promise.name for promise in PROMISES)


@dataclass(frozen=True)
class Entry:
    """A figure, and where it comes from."""

    figure: Figure
    module: str
    """the benchmark that measured it, or was to"""
    machine: str = ""
    software: str = ""
    date: str = ""
    """YYYY-MM-DD"""


def completed(entries: Iterable[Entry]) -> list[Entry]:
    """The same entries with one for each promise, measured or not, promises first, in their order and with their targets."""
    given = list(entries)
    by_name = {entry.figure.name: entry for entry in reversed(given)}
    promised = [_promised(promise, by_name.get(promise.name)) for promise in PROMISES]
    return promised + [entry for entry in given if entry.figure.name not in NAMES]


def _promised(promise: Promise, entry: Entry | None) -> Entry:
    if entry is None:
        return Entry(promise.missing(NOT_RUN), "")
    unit = entry.figure.unit or promise.unit
    figure = replace(entry.figure, unit=unit, target=promise.target, lower_is_better=promise.lower_is_better)
    return replace(entry, figure=figure)


def to_json(entries: Sequence[Entry]) -> str:
    """A list with one object for each figure, one to a line."""
    where = [field.name for field in fields(Entry) if field.name != "figure"]
    rows = [{**asdict(entry.figure), **{name: getattr(entry, name) for name in where}} for entry in entries]
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows) + "\n]\n"


def from_json(text: str) -> list[Entry]:
    """What `to_json` wrote. Raises ValueError, TypeError or KeyError on anything else."""
    known = [field.name for field in fields(Figure)]
    return [
        Entry(Figure(**{name: row.pop(name) for name in known}), **row)  # what is left says where it comes from
        for row in json.loads(text)
    ]


def to_markdown(entries: Sequence[Entry], reasons: Mapping[str, str], by_hand: str = "", *, quick: bool = False) -> str:
    """The page.

    Args:
        entries: completed ones.
        reasons: by the name of a figure, why it falls short and what was tried; shown where it does.
        by_hand: what follows, after a line that marks it.
        quick: whether the runs were too short for figures to mean anything, which the page says.
    """
    promised = entries[: len(PROMISES)]
    others = entries[len(PROMISES) :]
    parts = [
        "# Results",
        "`make bench` writes this page and `results.json`. A figure is the median of its runs, with the least and the most of\n"
        "them. Ratios are taken between things measured side by side in the same run.",
        "**Quick runs, which show that the benchmarks work. Their figures mean little.**" if quick else "",
        "\n".join(_machines(entries)),
        "## What is promised",
        _table(promised, {promise.name: promise.what for promise in PROMISES}),
        _remarks(promised, reasons),
        "## For orientation" if others else "",
    ]
    for module, group in groupby(others, key=lambda entry: entry.module):
        of_module = list(group)
        parts += [f"### {_plain(module)}", _table(of_module, {}), _remarks(of_module, reasons)]
    if by_hand.strip():
        parts += [BY_HAND, by_hand.strip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def kept_by_hand(page: Path) -> str:
    """What was written by hand into an earlier page."""
    return page.read_text().partition(BY_HAND)[2].strip() if page.exists() else ""


def _machines(entries: Sequence[Entry]) -> list[str]:
    """A line for each machine: what it is, what was measured on it, and when."""
    on: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        if entry.machine:
            on.setdefault((entry.machine, entry.software, entry.date), []).append(entry.module)
    return [
        f"- {_plain(date)}, {_plain(machine)}; {_plain(software)}: {_plain(', '.join(dict.fromkeys(modules)))}"
        for (machine, software, date), modules in on.items()
    ]


def _table(entries: Sequence[Entry], words: Mapping[str, str]) -> str:
    """A table of figures; `words` say what they are, by name."""
    first = "| what | figure | measured | least … most | runs | target | reached |" if words else ""
    lines = [first or "| figure | measured | least … most | runs | target | reached |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for entry in entries:
        figure = entry.figure
        measured = "not measured" if figure.value is None else f"{_number(figure.value)} {figure.unit}".strip()
        spread = "" if figure.min is None or figure.max is None else f"{_number(figure.min)} … {_number(figure.max)}"
        least = "≤" if figure.lower_is_better else "≥"
        target = "" if figure.target is None else f"{least} {_number(figure.target)} {figure.unit}".strip()
        reached = {True: "yes", False: "**no**", None: ""}[figure.reached]
        what = [words[figure.name]] if words else []
        cells = [*what, f"`{figure.name}`", measured, spread, str(figure.runs or ""), target, reached]
        lines.append(f"| {' | '.join(_plain(cell) for cell in cells)} |")
    return "\n".join(lines)


def _remarks(entries: Sequence[Entry], reasons: Mapping[str, str]) -> str:
    """What is to be said of figures: why they were not measured or fall short, and how they were taken."""
    lines = []
    for entry in entries:
        figure = entry.figure
        said = [
            f"not measured: {figure.note.removeprefix('not measured: ') or NOT_RUN}" if figure.value is None else figure.note
        ]
        if figure.reached is False:
            said.append(f"falls short: {reasons.get(figure.name, 'no reason is written down in `benchmarks/reasons.toml`')}")
        text = "; ".join(part for part in said if part)
        if text:
            lines.append(f"- `{_plain(figure.name)}`: {_plain(text)}")
    return "\n".join(lines)


def _number(value: float) -> str:
    """Three digits that count, and all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _plain(text: str) -> str:
    """Text for a table's cell or a line: one line, no column, no HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
