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
    """The strata as a table, what is unusual about them, and the paths of the files."""
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
        _line(f"only {sample.population:,} images have scores, fewer than --n {sample.asked:,}: all of them are drawn")
    if sample.nearest:
        _line(f"too few images are within {sample.policy.near:g} of the threshold: those closest below it are drawn")
    same = sample.drawn - len(sample.images)
    if same:
        same_bytes = "has the same bytes as another one: it is" if same == 1 else "have the same bytes as others: they are"
        _line(f"{same:,} of the drawn images {same_bytes} labelled once, with the weight of all")
    if sample.errors:
        _line(f"{sample.errors:,} images could not be scored and are skipped")
    if sample.restricted:
        _line(f"{sample.restricted:,} images are on a restricted hash list: they are left out, and nobody may label them")
    _line("")
    downloads = Path.home() / "Downloads"
    saved = (downloads if downloads.is_dir() else csv.parent) / saved_name(rule.id)
    _line(f"page    {visible(str(page))}  (open it in a browser, label with the keyboard, and save)")
    _line(f"saves   {visible(str(saved))}  (or your browser's download folder: then use that path below)")
    tune = ("moderate", "policy", "tune", policy or "POLICY.yaml", "--results", results, "--labels")
    _line(f"then    {command(*tune, saved)}")
    _line(f"or fill in the column `label` of {visible(str(csv))} with true and false:")
    _line(f"        {command(*tune, csv)}")
    if policy is None:
        _line("        (POLICY.yaml: the policy file, which is no longer where the newest run read it)")


def _line(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False, soft_wrap=True)
