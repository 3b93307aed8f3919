"""The `moderate model` commands: what would other weights change?"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moderation.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from moderation.model_comparison.comparing import Truths
    from moderation.model_comparison.records import ModelComparison
    from moderation.policy.schema import Policy

model_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Compare the models that score images.")


@model_app.callback()
def _models() -> None:
    """Compare the models that score images."""


@model_app.command()
def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The model that the policy's thresholds are for: demo, ViT-B-32/openai, hf-hub:org/repo ..."
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="Another one; also ViT-B-32/folder/weights.safetensors, or a policy file (.yaml) whose model is meant.",
        ),
    ],
    source: Annotated[
        list[str],
        typer.Option("--source", help="Images: a folder, prefix or manifest, as `moderate run` takes it; may be repeated."),
    ],
    policy: Annotated[Path, typer.Option("--policy", "-p", help="The policy file; the model that it names does not count.")],
    sample: Annotated[int, typer.Option("--sample", min=1, max=100_000, help="Images to draw.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Another number draws other images.")] = 0,
    hold: Annotated[
        Literal["flag-rate", "precision"],
        typer.Option("--hold", help="What thresholds for B keep: how many images are flagged, or how many of these rightly."),
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
        Path | None, typer.Option("--html", help="Also write a page with the images they disagree on, blurred.")
    ] = None,
) -> None:
    """Score the same images with two models, A and B, and say what moving from A to B would change.

    Scores of two models cannot be compared, so thresholds that are right for A are wrong for B. Shows per rule how far both
    agree, and thresholds for B with which as many images are flagged as now, or as many of the flagged ones rightly. Needs
    neither Ray nor a run; both models must be on this machine or to be downloaded.

    Example: `moderate model compare ViT-B-32/openai ViT-B-32/laion2b_s34b_b79k --source photos/ --policy policy.yaml`
    """
    if (hold == "precision") != (labels is not None):
        advice = "--hold precision needs --labels" if labels is None else "--labels are for --hold precision: give both"
        raise SettingsError(advice)

    from moderation.commands.models_console import show_comparison, show_line, show_remark
    from moderation.model_comparison.choice import model_choice
    from moderation.model_comparison.comparing import compare_models
    from moderation.policy.loading import load_policy
    from moderation.progress import StageLines, listening

    chosen, checked = (model_choice(a), model_choice(b)), load_policy(policy)
    truths = None
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
        typer.echo(json.dumps(_as_json(found), indent=2))  # ASCII only: whatever is in a name, the terminal is safe from it
    else:
        show_comparison(found)


def _truths(path: Path, policy: "Policy") -> "tuple[Truths, list[str]]":
    """What labels say about the policy's rules, and what of them cannot be used."""
    from moderation.model_comparison.comparing import Truth
    from moderation.policy.schema import Mode
    from moderation.tuning.labels import ANY, read_labels

    file = read_labels(path)
    remarks = [f"{file.place(remark.lines)}: {remark}" for remark in file.remarks]
    live = [rule.id for rule in policy.active_rules if rule.mode is Mode.LIVE]
    known = {rule.id for rule in policy.active_rules}
    weighted = all(label.weight is not None for label in file.labels if label.truth is not None)
    truths: dict[str, dict[str, Truth]] = {}
    unknown: list[int] = []
    unclear: list[int] = []
    for label in sorted(
        file.labels, key=lambda label: label.rule != ANY
    ):  # what is said of a rule itself comes last, and counts
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
        remarks.append(f"{file.place(sorted(unknown))}: {len(unknown):,} labels name no rule that the policy scores (left out)")
    if unclear:
        remarks.append(
            f"{file.place(sorted(unclear))}: {len(unclear):,} times `any` is true, which says of no rule that (left out)"
        )
    if not truths:
        raise SettingsError(f"{str(path)!r} holds no label that can be used: it needs rows with uri, rule and true or false")
    return truths, remarks


def _write_page(path: Path, found: "ModelComparison", locations: list[str]) -> None:
    from moderation.images.sources import open_sources, reader_of
    from moderation.model_comparison.comparing import CONNECTIONS
    from moderation.model_comparison.page import comparison_page

    page = comparison_page(found, reader_of(open_sources(locations, CONNECTIONS), CONNECTIONS))
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None


def _as_json(found: "ModelComparison") -> dict[str, Any]:
    from moderation.model_comparison.words import notes

    content = asdict(found)
    for key in ("actions", "actions_fitted"):
        pairs = getattr(found, key).items()
        content[key] = [{"a": before, "b": after, "images": count} for (before, after), count in pairs]
    return {**content, "same_model": found.same_model, "notes": notes(found)}
