"""The `moderate` command."""

if __name__ == "__main__":  # at once: Ctrl-C may come while the rest is imported
    from moderation.common import stopping
    from moderation.common.streams import open_streams

    open_streams()
    stopping.listen()

import contextlib
import logging
import secrets
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from moderation.commands.actions import actions_app
from moderation.commands.background import background
from moderation.commands.backtest import backtest
from moderation.commands.deploy import deploy
from moderation.commands.export import export_app
from moderation.commands.learn import learn
from moderation.commands.lists import lists_app
from moderation.commands.models import model_app
from moderation.commands.policy import policy_app
from moderation.commands.query import query, results_app
from moderation.commands.queues import queues_app
from moderation.commands.replay import replay
from moderation.commands.review_measures import agreement, stats
from moderation.commands.reviews import reviews_app
from moderation.commands.runs import runs_app
from moderation.commands.sample import sample
from moderation.commands.search import search
from moderation.commands.studio import studio
from moderation.commands.tune import tune
from moderation.common import stopping
from moderation.common.logs import LogFormat
from moderation.common.safe_text import shortened_words, visible
from moderation.common.scarcity import scarcity
from moderation.common.secrets import redacted
from moderation.console.terminal import show_any_text
from moderation.errors import ModerationError, SettingsError
from moderation.images.limits import ImageLimits
from moderation.model.encoder import Device, Precision
from moderation.model.engines import EngineChoice
from moderation.model.preprocessing import Resize
from moderation.scoring.options import JpegDecoding
from moderation.settings import RunSettings

app = typer.Typer(
    name="moderate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Moderate images in object storage with CLIP: every image becomes a row in Parquet, with its decision and "
    "the evidence for it.",
    epilog="Start with `moderate demo`: it needs no network, no GPU and no settings.",
)

app.add_typer(policy_app, name="policy")
app.add_typer(runs_app, name="runs")
app.add_typer(reviews_app, name="reviews")
app.add_typer(results_app, name="results")
app.command()(query)
app.command()(search)
app.command()(studio)
app.command()(deploy)
policy_app.command()(background)
policy_app.command()(backtest)
policy_app.command()(sample)
policy_app.command()(tune)
policy_app.command()(learn)
runs_app.command()(replay)
app.add_typer(model_app, name="model")
app.add_typer(lists_app, name="lists")
app.add_typer(queues_app, name="queues")
reviews_app.command()(stats)
reviews_app.command()(agreement)
app.add_typer(actions_app, name="actions")
app.add_typer(export_app, name="export")

_FIELDS = RunSettings.model_fields
_LIMITS = ImageLimits()


def _option(name: str, *declarations: str) -> Any:
    return typer.Option(*declarations, help=_FIELDS[name].description, show_default=_FIELDS[name].default is not None)


def _limit(name: str) -> Any:
    return typer.Option(help=ImageLimits.model_fields[name].description)


@app.command()
def run(
    policy: Annotated[str, _option("policy", "--policy", "-p")],
    output: Annotated[str, _option("output", "--output", "-o")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="What to moderate: folders or prefixes such as s3://bucket/prefix (also gs:// and az://), or "
            "manifests: .csv, .jsonl or "
            ".parquet files with a column `uri` (also .gz), or the manifest.json of an S3 Inventory.",
            show_default=False,
        ),
    ] = None,
    run_id: Annotated[str | None, _option("run_id")] = None,
    from_embeddings: Annotated[bool, _option("from_embeddings", "--from-embeddings")] = False,
    full: Annotated[bool, _option("full", "--full")] = False,
    retry_errors: Annotated[bool, _option("retry_errors", "--retry-errors")] = False,
    include: Annotated[list[str] | None, _option("include")] = None,
    exclude: Annotated[list[str] | None, _option("exclude")] = None,
    modified_since: Annotated[str | None, _option("modified_since")] = None,
    limit: Annotated[int | None, _option("limit")] = None,
    quality: Annotated[str | None, _option("quality")] = None,
    device: Annotated[Device, _option("device")] = _FIELDS["device"].default,
    precision: Annotated[Precision, _option("precision")] = _FIELDS["precision"].default,
    engine: Annotated[EngineChoice, _option("engine")] = _FIELDS["engine"].default,
    jpeg_decoder: Annotated[JpegDecoding, _option("jpeg_decoder")] = _FIELDS["jpeg_decoder"].default,
    resize: Annotated[Resize, _option("resize")] = _FIELDS["resize"].default,
    actors: Annotated[int | None, _option("actors")] = None,
    gpus_per_actor: Annotated[float, _option("gpus_per_actor")] = _FIELDS["gpus_per_actor"].default,
    fetch_threads: Annotated[int, _option("fetch_threads")] = _FIELDS["fetch_threads"].default,
    decode_threads: Annotated[int | None, _option("decode_threads")] = None,
    shard_size: Annotated[int | None, _option("shard_size")] = None,
    batch_size: Annotated[int, _option("batch_size")] = _FIELDS["batch_size"].default,
    batch_timeout_s: Annotated[float, _option("batch_timeout_s", "--batch-timeout")] = _FIELDS["batch_timeout_s"].default,
    max_bytes: Annotated[int, _limit("max_bytes")] = _LIMITS.max_bytes,
    max_pixels: Annotated[int, _limit("max_pixels")] = _LIMITS.max_pixels,
    max_frames: Annotated[int, _limit("max_frames")] = _LIMITS.max_frames,
    max_seconds: Annotated[float, _limit("max_seconds")] = _LIMITS.max_seconds,
    formats: Annotated[
        str, typer.Option(help=f"{ImageLimits.model_fields['formats'].description}; several with commas.", show_default=False)
    ] = "",
    ray_address: Annotated[str | None, _option("ray_address")] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format",
            help="json: one line of JSON per step on standard error, and no progress bar. Can also be set with "
            "MODERATION_LOG_FORMAT.",
            show_default=False,
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of the flow and its libraries.")] = False,
) -> None:
    """Moderate the images that SOURCE names and publish the results under the output.

    By default, a run processes only objects that are new, changed, or not yet decided under this policy and model. Objects
    whose embeddings earlier runs stored are decided from those, and no image is read.
    S3 credentials, region, profile and endpoint come from where AWS tools look for them
    (AWS_PROFILE, AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, ~/.aws/config ...).

    Example: `moderate run s3://shop/uploads --policy policies/shop.yaml --output s3://moderation/results`
    """
    options = dict(locals())  # by the names that the settings have, too
    given = {name: value for name, value in options.items() if value is not None}
    limits = {name: given[name] for name in ImageLimits.model_fields}
    limits["formats"] = tuple(name.strip() for name in formats.split(",") if name.strip())
    values = {name: given[name] for name in _FIELDS if name in given}
    _moderate(_settings(**values | {"run_id": run_id or _new_run_id(), "limits": limits}), verbose, log_format)


@app.command()
def demo(
    output: Annotated[str, typer.Option("--output", "-o", help="Where to write the results.")] = "demo-output",
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="A policy to use instead of the bundled one.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of the flow and its libraries.")] = False,
) -> None:
    """Moderate some 300 bundled images with the bundled model and policy: offline, on the CPU, in about a minute.

    Prints the counts, precision and recall against the images' labels, and the paths of all files. Change the policy and run
    it again: it reports what changed in the policy, and which images get a different decision.
    """
    from moderation.demo import IMAGES_DIR, POLICY_FILE

    settings = _settings(
        sources=str(IMAGES_DIR),
        policy=policy or str(POLICY_FILE),
        output=output,
        run_id=_new_run_id(),
        full=True,
        device="cpu",
        batch_size=32,
    )
    from moderation.planning.inputs import check_inputs
    from moderation.results.run_differences import latest_run

    earlier = latest_run(check_inputs(settings).output)
    outcome = _moderate(settings, verbose, resumable=False)

    from moderation.console.run import show_demo, show_differences

    show_differences(outcome, earlier)
    show_demo(outcome, settings)


@app.command()
def version() -> None:
    """Show the versions of this program and of the libraries that affect its results."""
    from moderation.common.versions import versions

    for name, number in versions().items():
        typer.echo(f"{name} {number}")


def main() -> None:
    """The command, after `moderation.entry`. A user's mistake is reported in one line, with exit code 2."""
    show_any_text()
    try:
        app(prog_name="moderate")
    except ModerationError as error:
        typer.echo(f"error: {shortened_words(str(error))}", err=True)
        sys.exit(error.exit_code)
    except (OSError, MemoryError, RuntimeError) as error:
        lacking = scarcity(error)
        if lacking is None:
            raise
        typer.echo(f"error: {shortened_words(visible(lacking))}", err=True)
        sys.exit(1)
    except SystemExit as error:  # typer ends an interrupted command with code 1
        number = stopping.stopped_by(error)
        sys.exit(error.code if number is None else 128 + number)


def _moderate(settings: RunSettings, verbose: bool, asked: LogFormat | None = None, *, resumable: bool = True) -> Any:
    from moderation.common.logs import json_lines, log_format
    from moderation.planning.inputs import check_inputs

    stopping.listen()
    again = f"to resume, give the same command with --run-id {settings.run_id}" if resumable else "run it again"
    stopping.on_stop(f"stopped at once; {again}")
    try:
        from flows.command import check_size, moderated

        check_size(settings)
        inputs = check_inputs(settings)  # before starting anything, which takes a while
        if not verbose:
            # What Ray logs goes to its own log files; errors are shown by `main`.
            logging.getLogger().setLevel(logging.CRITICAL)

        from moderation.common.progress import listening
        from moderation.console.run import progress_bar, show_run

        shown = json_lines() if log_format(asked) == "json" else progress_bar()
        with shown, listening(lambda _: stopping.listen_again()):
            outcome = moderated(settings, inputs, quiet=not verbose)
    except BaseException as error:
        number = stopping.stopped_by(error)
        if number is None:
            raise
        stopping.end(number, f"stopped; {_left(settings)}: {again}")
    show_run(outcome, inputs.policy)
    return outcome


def _left(settings: RunSettings) -> str:
    """What a stopped run leaves behind, in words."""
    from moderation.results.manifest import find_manifest
    from moderation.storage import Store

    with contextlib.suppress(ModerationError):
        if settings.run_id and find_manifest(Store(settings.output), settings.run_id):
            return "the run is published, with or without its report"
    return "nothing was published"


def _settings(**values: Any) -> RunSettings:
    try:
        return RunSettings(**values)
    except ValidationError as error:
        mistakes = [f"{_flag(e['loc'])}: {e['msg'].lower()}, got {redacted(repr(e['input']))}" for e in error.errors()]
        raise SettingsError("; ".join(mistakes)) from None


def _flag(location: tuple[str | int, ...]) -> str:
    name = [part for part in location if isinstance(part, str)][-1]
    return "SOURCE" if name == "sources" else "--" + name.replace("_", "-")


def _new_run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


if __name__ == "__main__":
    main()
