"""`moderate policy learn`: a head from labelled images."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderation.errors import OutputError, PolicyError, SettingsError

if TYPE_CHECKING:
    from moderation.studies.learning.learn import Lesson


def learn(
    file: Annotated[Path, typer.Argument(help="The policy file.", show_default=False)],
    rule: Annotated[str, typer.Option("--rule", help="The rule to learn a head for.", show_default=False)],
    results: Annotated[str, typer.Option("--results", "-r", help="The output of runs: a folder or a URI.", show_default=False)],
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            "-l",
            help="CSV with uri, rule (or any), label (true or false) and, optionally, weight; or `reviews`.",
            show_default=False,
        ),
    ],
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
    write: Annotated[
        bool, typer.Option("--write", help="Write the head and suggested thresholds into FILE, each with its evidence.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Learn a head for a rule of FILE from images that people labelled: a score that is a calibrated probability.

    Writes heads/RULE-HASH.safetensors beside FILE, and a JSON with the evidence: how it compares with the rule as it is, on
    labels that it did not see, and what more labels would bring. Learns from stored embeddings; no image is fetched. Needs
    ten true and ten false labels. Exit code 1, with nothing written into FILE, if the head is worse than the rule.

    Example: `moderate policy learn shop.yaml --rule firearms --results results --labels labels/firearms.csv --write`
    """
    from moderation.commands.stored_results import opened
    from moderation.commands.tune import check_rule
    from moderation.console.learn import show_lesson, show_written
    from moderation.policy_files.loading import load_policy
    from moderation.scoring.prompt_embeddings import compiled_for
    from moderation.studies.learning.head_evidence import evidence_file
    from moderation.studies.learning.learn import learn as learned
    from moderation.studies.tuning.review_labels import labels_of

    if prevalence is not None and not 0 < prevalence < 1:
        raise SettingsError(f"--prevalence {prevalence:g}: give a share between 0 and 1, such as 0.001 for 0.1 %")
    read = _content(file)
    policy = load_policy(file)
    check_rule(policy, rule)
    archive = opened(results, None, fingerprint, policy.model.label)
    found_labels = labels_of(labels, archive, [rule], policy.hash)
    lesson = learned(archive, compiled_for(policy, archive), found_labels, rule, prevalence=prevalence)
    if as_json:
        typer.echo(evidence_file(lesson), nl=False)
    else:
        show_lesson(lesson)
    name = _files(lesson, file.parent / "heads")
    show_written([file.parent / name, (file.parent / name).with_suffix(".json")])
    if lesson.comparison.verdict == "worse":
        if write:
            typer.echo("the policy was not changed", err=True)
        raise typer.Exit(1)
    if write:
        _write(lesson, file, name, read)
        show_written([file])


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PolicyError(f"cannot read the policy {str(file)!r}: {(error.strerror or str(error)).lower()}") from None


def _files(lesson: "Lesson", folder: Path) -> str:
    """Write the head and its evidence. Returns the head's path, relative to the policy."""
    from moderation.studies.learning.head_evidence import evidence_file, head_file

    name, data = head_file(lesson)
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".json").write_bytes(evidence_file(lesson))
    except OSError as error:
        raise OutputError(f"cannot write into {str(folder)!r}: {(error.strerror or str(error)).lower()}") from None
    return f"{folder.name}/{name}"


def _write(lesson: "Lesson", file: Path, name: str, read: bytes) -> None:
    from moderation.policy_files.head_files import parse_head
    from moderation.studies.learning.learn_text import comment, head_comment
    from moderation.studies.tuning.policy_file import LEARNED, NewThreshold, write_thresholds

    rule, day = lesson.rule.id, f"{datetime.now(UTC):%Y-%m-%d}"
    head = parse_head((file.parent / name).read_bytes(), name)
    written = [
        NewThreshold(rule, "score", "head", "", LEARNED),
        NewThreshold(rule, "head", name, head_comment(lesson, day), LEARNED),
        *(NewThreshold(rule, one.key, one.point.threshold, comment(lesson, one, day), LEARNED) for one in lesson.suggestions),
    ]
    write_thresholds(file, written, {rule: head}, read)
