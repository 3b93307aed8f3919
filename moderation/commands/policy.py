"""The `moderate policy` commands: check, show, explain, test, diff, schema."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moderation.errors import ModelError, OutputError

if TYPE_CHECKING:
    from moderation.model.encoder import Encoder
    from moderation.policy.explanation import Explanation
    from moderation.policy.schema import Policy

policy_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Write, check and understand policies.",
)

_File = Annotated[Path, typer.Argument(help="The policy file.", show_default=False)]


@policy_app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Policy files.", show_default=False)],
    output: Annotated[Literal["text", "json", "github"], typer.Option("--format", help="github: annotations in CI.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Download the model if needed, to compare prompts with it.")
    ] = False,
) -> None:
    """Report every mistake in FILES at once, and warn about what looks wrong.

    Each report has file, line and column, the line with a caret under the place, and what to write instead. If the model
    is on this machine, it is used to find prompts that it cannot tell apart. Exit code 1 if there are mistakes; warnings do
    not count.
    """
    if not download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when open_clip is imported

    from moderation.authoring.check import check_policy
    from moderation.common.findings import as_github
    from moderation.common.findings import as_json as findings_json
    from moderation.console.policy import show_checked

    checked = [check_policy(file, today=datetime.now(UTC).date()) for file in files]
    findings = [finding for one in checked for finding in one.findings]
    if as_json or output == "json":
        typer.echo(findings_json(findings))
    elif output == "github":
        typer.echo(as_github(findings), nl=bool(findings))
    else:
        for one in checked:
            show_checked(one)
    if not all(one.ok for one in checked):
        raise typer.Exit(1)


@policy_app.command()
def show(file: _File) -> None:
    """Show the rules of FILE as a table: prompts, lookalikes, thresholds, severity and mode."""
    from moderation.console.policy import show_policy
    from moderation.policy_files.loading import load_policy

    show_policy(load_policy(file))


@policy_app.command()
def explain(
    file: _File,
    images: Annotated[
        list[str], typer.Argument(help="Images or folders of images: paths or URIs (s3://, gs://, az://).", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with the images, blurred, and bars.")] = None,
) -> None:
    """Show what FILE decides for each IMAGE, and why.

    Shows every rule's score with its thresholds, the distance to the next action, the prompt closest to the image, and the
    strongest lookalike. Needs neither Ray nor a run. A folder means the images in it. Images that cannot be read are shown
    with their error. Exit code 1 if no image could be read.
    """
    from moderation.authoring.explain import expand
    from moderation.console.policy import show_cut, show_explanations, show_written
    from moderation.policy_files.loading import load_policy

    policy = load_policy(file)
    expanded, cut = expand(images)
    images = list(expanded)
    encoder, found = _explain(file, policy, images, None)
    named = list(zip(images, found, strict=True))
    if html is not None:
        from moderation.authoring.explanation_page import explanation_page

        _write(html, explanation_page(policy, encoder.name, encoder.fingerprint, named).encode())
        show_written(html)
    if as_json:
        about = {**_named(policy), "model": encoder.name, "model_fingerprint": encoder.fingerprint}
        _print_json({**about, "images": [{"image": name, **asdict(explanation)} for name, explanation in named]})
    else:
        show_explanations(policy, named)
    show_cut(cut)
    if found and all(explanation.error_code is not None for explanation in found):
        raise typer.Exit(1)


@policy_app.command("test")
def run_examples(
    file: _File,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write the results as JUnit XML, for CI.")] = None,
) -> None:
    """Test FILE with its examples: does every image get the expected decision?

    Prints one line per example, and precision and recall per rule. Exit code 1 if any example fails.
    """
    from moderation.console.policy import show_test, show_written
    from moderation.policy.rule_examples import accuracy, judge, junit_xml
    from moderation.policy_files.loading import load_policy

    policy = load_policy(file)
    found: Sequence[Explanation] = ()
    if policy.examples:
        _, found = _explain(file, policy, [example.image for example in policy.examples], file.absolute().parent)
    results = judge(policy.examples, found)
    show_test(policy, results, accuracy(policy, policy.examples, found))
    if junit is not None:
        _write(junit, junit_xml(policy, results))
        show_written(junit)
    if any(result.verdict != "pass" for result in results):
        raise typer.Exit(1)


@policy_app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="The policy file as it was.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="The policy file as it is now.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show what changed in meaning from OLD to NEW, and whether the policy's identity changed.

    Changes in comments, layout and the order of rules and prompts have no meaning and are not shown.
    """
    from moderation.console.policy import show_changes
    from moderation.policy.comparison import compare, identity
    from moderation.policy_files.loading import load_policy

    before, after = load_policy(old), load_policy(new)
    changes = compare(before, after)
    message = identity(before, after, changes)
    if as_json:
        listed = [{**asdict(change), "note": change.note} for change in changes]
        same = before.hash == after.hash
        _print_json({"old": _named(before), "new": _named(after), "same_hash": same, "identity": message, "changes": listed})
    else:
        show_changes(before, after, changes, message)


@policy_app.command()
def schema() -> None:
    """Print the JSON Schema of the policy language, for completion in editors."""
    from moderation.policy.json_schema import schema as language

    typer.echo(json.dumps(language(), indent=2, ensure_ascii=False))


def _explain(
    file: Path, policy: "Policy", images: Sequence[str], folder: Path | None
) -> "tuple[Encoder, tuple[Explanation, ...]]":
    from moderation.authoring.explain import explain_images, load_encoder
    from moderation.policy_files.loading import located

    try:
        encoder = load_encoder(policy)
    except ModelError as error:
        raise located(file, error) from None
    return encoder, explain_images(policy, encoder, images, folder)


def _named(policy: "Policy") -> dict[str, str]:
    return {"policy": policy.policy, "version": policy.version, "hash": policy.hash}


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2))  # ASCII only, so that no name can harm the terminal


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
