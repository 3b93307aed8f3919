"""`moderate policy tune`: thresholds from labelled images."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moderation.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from moderation.policy.schema import Policy
    from moderation.studies.tuning.tune import Target, Tuning


def tune(
    file: Annotated[Path, typer.Argument(help="The policy file.", show_default=False)],
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            "-l",
            help="CSV with uri, rule (or any), label (true or false) and, optionally, weight; or `reviews`: people's verdicts.",
            show_default=False,
        ),
    ],
    rule: Annotated[str | None, typer.Option("--rule", help="Only this rule.", show_default=False)] = None,
    precision: Annotated[
        float | None, typer.Option("--precision", help="Find the lowest threshold with this precision.", show_default=False)
    ] = None,
    recall: Annotated[
        float | None, typer.Option("--recall", help="Find the highest threshold with this recall.", show_default=False)
    ] = None,
    reviews_per_day: Annotated[
        float | None,
        typer.Option(
            "--reviews-per-day",
            help="Find the lowest threshold with at most this many images to review per day.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[Literal["review", "block"], typer.Option("--for", help="Which threshold to tune.")] = "review",
    confident: Annotated[
        bool,
        typer.Option("--confident", help="Require the lower end of the 95 % interval, not the estimate, to meet the target."),
    ] = False,
    prevalence: Annotated[
        float | None,
        typer.Option(
            "--prevalence", help="Share of positives in production; cannot be combined with weights.", show_default=False
        ),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="Which model's embeddings to use, if there are several.", show_default=False),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the thresholds into FILE, each with its evidence.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder for a page with plots, and each plot as SVG.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Find the thresholds of FILE that meet a target, from images that people labelled.

    Shows precision, recall and average precision with intervals that stay valid for a threshold chosen from the same labels.
    Scores come from stored embeddings; no image is fetched. Weights, as `moderate policy sample` writes them, show how common
    positives are; without weights, give --prevalence. Exit code 1, with nothing written, if the target cannot be reached or
    labels cannot be used.

    Example: `moderate policy tune shop.yaml --results results --labels firearms.csv --precision 0.95 --write`
    """
    from moderation.commands.stored_results import opened
    from moderation.console.tune import print_json, show_tuning, show_written
    from moderation.policy_files.loading import load_policy
    from moderation.scoring.prompt_embeddings import compiled_for
    from moderation.studies.tuning.review_labels import labels_of
    from moderation.studies.tuning.tune import tune as tuned

    target = _target(precision, recall, reviews_per_day, key, confident=confident)
    if prevalence is not None and not 0 < prevalence < 1:
        raise SettingsError(f"--prevalence {prevalence:g}: give a share between 0 and 1, such as 0.001 for 0.1 %")
    if write and target is None:
        raise SettingsError("--write needs a target: --precision, --recall or --reviews-per-day")
    policy = load_policy(file)
    check_rule(policy, rule)
    archive = opened(results, None, fingerprint, policy.model.label)
    read = labels_of(labels, archive, [one.id for one in policy.active_rules], policy.hash)
    found = tuned(archive, compiled_for(policy, archive), read, only=rule, key=key, target=target, prevalence=prevalence)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    if as_json:
        print_json(found)
    else:
        show_tuning(found)
    if output is not None:
        show_written(_plots(found, output, day))
    if not found.ok:
        if write:
            typer.echo("the policy was not changed", err=True)
        raise typer.Exit(1)
    if write:
        _write(found, file, day)
        show_written([file])


def _target(
    precision: float | None, recall: float | None, reviews_per_day: float | None, key: str, *, confident: bool
) -> "Target | None":
    from moderation.studies.tuning.tune import Target

    shares = (("precision", precision), ("recall", recall))
    given = sum(value is not None for value in (precision, recall, reviews_per_day))
    if given > 1:
        raise SettingsError("give one of --precision, --recall and --reviews-per-day")
    for name, value in shares:
        if value is not None and not 0 < value <= 1:
            raise SettingsError(f"--{name} {value:g}: give a share above 0 and up to 1, such as 0.95")
    if confident and precision is None and recall is None:
        raise SettingsError("--confident needs --precision or --recall")
    if precision is not None:
        return Target("precision", precision, confident)
    if recall is not None:
        return Target("recall", recall, confident)
    if reviews_per_day is None:
        return None
    if key == "block":
        raise SettingsError("--reviews-per-day sets the review threshold: leave out --for block")
    if not (reviews_per_day > 0 and math.isfinite(reviews_per_day)):
        raise SettingsError(f"--reviews-per-day {reviews_per_day:g}: give a number above 0, such as 500")
    return Target("reviews_per_day", reviews_per_day)


def check_rule(policy: "Policy", rule: str | None) -> None:
    """Raises `PolicyError` for a rule that the policy does not have, or that is off."""
    from moderation.errors import PolicyError
    from moderation.policy.consistency import known

    if rule is None or rule in {one.id for one in policy.active_rules}:
        return
    if rule in {one.id for one in policy.rules}:
        raise PolicyError(f"the rule {rule!r} is off, so it has no scores: set `mode: shadow` to try it")
    hint = known("rules", rule, [one.id for one in policy.active_rules])
    raise PolicyError(f"the policy {policy.policy} has no rule {rule!r}: {hint}")


def _plots(found: "Tuning", folder: Path, day: str) -> list[Path]:
    from moderation.studies.tuning.plots import picture
    from moderation.studies.tuning.tune_page import tuning_page

    files = {folder / "tune.html": tuning_page(found, day).encode()}
    for one in found.rules:
        files[folder / f"tune-{one.rule.id}.svg"] = picture(one, found.target).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"cannot write into {str(folder)!r}: {(error.strerror or str(error)).lower()}") from None
    return list(files)


def _write(found: "Tuning", file: Path, day: str) -> None:
    from moderation.studies.tuning.policy_file import NewThreshold, write_thresholds
    from moderation.studies.tuning.tune_text import evidence

    write_thresholds(
        file,
        [
            NewThreshold(one.rule.id, one.key, one.chosen.threshold, evidence(one, day))
            for one in found.rules
            if one.chosen is not None
        ],
    )
