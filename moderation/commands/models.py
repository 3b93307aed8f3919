"""The `moderate model` commands: what would other weights change?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moderation.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from moderation.policy.schema import Policy
    from moderation.studies.model_comparison.comparing import Truths
    from moderation.studies.model_comparison.comparison_result import ModelComparison

model_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Compare the models that score images.")


@model_app.callback()
def _models() -> None:
    """Compare the models that score images."""


@model_app.command()
def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The model that the policy's thresholds were set for: demo, ViT-B-32/openai, hf-hub:org/repo ..."
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="The model to compare with; also ViT-B-32/folder/weights.safetensors, or a policy file (.yaml) that names it.",
        ),
    ],
    source: Annotated[
        list[str],
        typer.Option("--source", help="Images: a folder, prefix or manifest, as for `moderate run`; can be repeated."),
    ],
    policy: Annotated[Path, typer.Option("--policy", "-p", help="The policy file; the model that it names is ignored.")],
    sample: Annotated[int, typer.Option("--sample", min=1, max=100_000, help="Number of images to draw.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Random seed; another number draws different images.")] = 0,
    hold: Annotated[
        Literal["flag-rate", "precision"],
        typer.Option(
            "--hold", help="What thresholds for B keep the same: how many images are flagged, or how many of those correctly."
        ),
    ] = "flag-rate",
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV with uri, rule, label (true or false), for --hold precision.")
    ] = None,
    precision_a: Annotated[
        Literal["auto", "fp32", "bf16", "int8"], typer.Option("--precision-a", help="How A runs, as `moderate run` takes it.")
    ] = "auto",
    precision_b: Annotated[
        Literal["auto", "fp32", "bf16", "int8"],
        typer.Option("--precision-b", help="How B runs; A and B may be the same model in two precisions."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with the images that the models disagree on, blurred.")
    ] = None,
) -> None:
    """Score the same images with two models, A and B, and show what moving from A to B would change.

    Scores of two models cannot be compared, so thresholds that are right for A are wrong for B. Shows for each rule how far
    the models agree, and thresholds for B that flag as many images as now, or that are correct as often. Needs neither Ray
    nor a run; both models must be on this machine or available for download.

    Example: `moderate model compare ViT-B-32/openai ViT-B-32/laion2b_s34b_b79k --source photos/ --policy policy.yaml`
    """
    if (hold == "precision") != (labels is not None):
        advice = "--hold precision needs --labels" if labels is None else "--labels needs --hold precision"
        raise SettingsError(advice)

    from moderation.common.progress import StageLines, listening
    from moderation.console.models import show_comparison, show_line, show_remark
    from moderation.policy_files.loading import load_policy
    from moderation.studies.model_comparison.choice import model_choice, without_heads
    from moderation.studies.model_comparison.comparing import compare_models

    chosen, checked = (model_choice(a), model_choice(b)), load_policy(policy)
    truths = None
    heads = without_heads(checked)[1] if chosen[0] != chosen[1] else ()
    if heads:
        show_remark(f"left out: {', '.join(heads)}: a head belongs to one model; learn it again for the other one")
    if labels is not None:
        truths, remarks = _truths(labels, checked)
        for remark in remarks:
            show_remark(remark)
    with listening(StageLines(show_line)):
        found = compare_models(
            checked, *chosen, source, sample=sample, seed=seed, truths=truths, precisions=(precision_a, precision_b)
        )
    if html is not None:
        _write_page(html, found, source)
        show_line(f"written: {html}")
    if as_json:
        typer.echo(json.dumps(_as_json(found), indent=2))  # ASCII only, so that no name can harm the terminal
    else:
        show_comparison(found)


def _truths(path: Path, policy: "Policy") -> "tuple[Truths, list[str]]":
    """What the labels say about the policy's rules, and remarks on those that cannot be used."""
    from moderation.labels.label_file import ANY, read_labels
    from moderation.policy.schema import Mode
    from moderation.studies.model_comparison.comparing import Truth

    file = read_labels(path)
    remarks = [f"{file.place(remark.lines)}: {remark}" for remark in file.remarks]
    live = [rule.id for rule in policy.active_rules if rule.mode is Mode.LIVE]
    known = {rule.id for rule in policy.active_rules}
    weighted = all(label.weight is not None for label in file.labels if label.truth is not None)
    truths: dict[str, dict[str, Truth]] = {}
    unknown: list[int] = []
    unclear: list[int] = []
    for label in sorted(file.labels, key=lambda label: label.rule != ANY):  # labels of a rule itself come last and win
        if label.truth is None:  # not labelled yet
            continue
        truth = Truth(label.truth, label.weight if weighted and label.weight is not None else 1.0)
        if label.rule == ANY and label.truth:
            unclear.append(label.line)
        elif label.rule == ANY:
            truths.setdefault(label.uri, {}).update(dict.fromkeys(live, truth))
        elif label.rule in known:
            truths.setdefault(label.uri, {})[label.rule] = truth
        else:
            unknown.append(label.line)
    if unknown:
        remarks.append(f"{file.place(sorted(unknown))}: {len(unknown):,} labels name no rule that the policy scores (skipped)")
    if unclear:
        remarks.append(
            f"{file.place(sorted(unclear))}: {len(unclear):,} labels say `any` is true, without saying which rule (skipped)"
        )
    if not truths:
        raise SettingsError(f"{str(path)!r} has no usable label: it needs rows with uri, rule, and true or false")
    return truths, remarks


def _write_page(path: Path, found: "ModelComparison", locations: list[str]) -> None:
    from moderation.sources import open_sources, reader_of
    from moderation.studies.model_comparison.comparing import CONNECTIONS
    from moderation.studies.model_comparison.comparison_page import comparison_page

    page = comparison_page(found, reader_of(open_sources(locations, CONNECTIONS), CONNECTIONS))
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None


def _as_json(found: "ModelComparison") -> dict[str, Any]:
    from moderation.studies.model_comparison.comparison_text import notes

    content = asdict(found)
    for key in ("actions", "actions_fitted"):
        pairs = getattr(found, key).items()
        content[key] = [{"a": before, "b": after, "images": count} for (before, after), count in pairs]
    return {**content, "same_model": found.same_model, "notes": notes(found)}
