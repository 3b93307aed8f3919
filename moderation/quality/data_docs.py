"""Data Docs: a small static site that shows what was asked and what was found. It loads nothing from anywhere.

Great Expectations draws the answers. Its own pages around them fetch styles, fonts and scripts from nine hosts; these do
not, and their Content-Security-Policy would not let them.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from moderation.common.safe_text import visible
from moderation.quality.catalogue import CATALOGUE, Level
from moderation.quality.expectations import drawn
from moderation.quality.verdicts import Verdict

PAGES: dict[Level, str] = {"run": "Checks of the run", "rows": "Checks of the rows"}
"""One page each, next to the index: run.html and rows.html. All shards are shown together."""


def write_data_docs(verdicts: Sequence[Verdict], run_id: str, policy: str, folder: Path) -> Path:
    """Write the site for one run and return its index.html. `policy`: what people call it, with its version."""
    environment = Environment(
        loader=PackageLoader("moderation.quality", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    folder.mkdir(parents=True, exist_ok=True)
    template = environment.get_template("data_docs.html.j2")
    results = sorted((v.result for v in verdicts), key=lambda r: (r.passed, r.severity != "fail"))
    index = folder / "index.html"
    common = {"run_id": run_id, "policy": policy, "pages": PAGES}
    index.write_text(template.render(common, title="Quality checks", page="index", results=results, drawn=""), "utf-8")
    for level, title in PAGES.items():
        validations = [v for verdict in verdicts if CATALOGUE[verdict.result.name].level == level for v in verdict.validations]
        body = Markup(drawn(validations, run_id)) if validations else ""  # noqa: S704 - `drawn` escapes what comes from keys
        page = template.render(common, title=title, page=level, results=[], drawn=body)
        (folder / f"{level}.html").write_text(page, "utf-8")
    return index
