"""What `moderate policy sample` shows: how many images there are of each kind, what was drawn, and what to do next."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from moderation.common.safe_text import visible
from moderation.html.text import NONE, command, threshold
from moderation.studies.sampling.labels_file import saved_name
from moderation.studies.sampling.sample_result import Sample

_OUT = Console(highlight=False)


def show_sample(sample: Sample, csv: Path, page: Path, *, policy: Path | None, results: str) -> None:
    """The strata as a table, what is odd about them, and where the files lie."""
    rule, low = sample.rule, sample.rule.thresholds[0]
    _line(f"rule {rule.id} of the policy {sample.policy.policy} {visible(sample.policy.version)} ({sample.policy.hash})")
    scores = {
        "flagged": f"score {threshold(low)} or more",
        "near": "closest below" if sample.nearest else f"up to {sample.policy.near:g} below",
        "random": "all others",
    }
    table = Table()
    table.add_column("stratum", no_wrap=True)
    table.add_column("scores")
    for column in ("images", "drawn", "different", "weight"):
        table.add_column(column, justify="right", no_wrap=True)
    for stratum in sample.strata:
        weight = f"{stratum.weight:.6g}" if stratum.drawn else NONE
        numbers = (stratum.images, stratum.drawn, stratum.pictures)
        table.add_row(stratum.name, scores[stratum.name], *(f"{number:,}" for number in numbers), weight)
    _OUT.print(table)
    if sample.population < sample.asked:
        _line(f"there are only {sample.population:,} images with scores, fewer than --n {sample.asked:,}: all are drawn")
    if sample.nearest:
        _line(
            f"fewer images lie within {sample.policy.near:g} of the threshold than are wanted: the closest below it are drawn"
        )
    same = sample.drawn - len(sample.images)
    if same:
        same_bytes = "has the bytes of another one: it is" if same == 1 else "have the bytes of others: they are"
        _line(f"{same:,} of the drawn images {same_bytes} labelled once, with the weight of all")
    if sample.errors:
        _line(f"{sample.errors:,} images could not be scored and are left out")
    _line("")
    downloads = Path.home() / "Downloads"
    saved = (downloads if downloads.is_dir() else csv.parent) / saved_name(rule.id)
    _line(f"page    {visible(str(page))}  (open it in a browser, label by keyboard, and save)")
    _line(f"saves   {visible(str(saved))}  (or wherever your browser puts what it saves: then name that file below)")
    tune = ("moderate", "policy", "tune", policy or "POLICY.yaml", "--results", results, "--labels")
    _line(f"then    {command(*tune, saved)}")
    _line(f"or fill in the column `label` of {visible(str(csv))} by true and false:")
    _line(f"        {command(*tune, csv)}")
    if policy is None:
        _line("        (POLICY.yaml: the file of the policy, which is no longer where the newest run had it from)")


def _line(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False, soft_wrap=True)
