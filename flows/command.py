"""Runs the main flow for a command: with a Prefect API, and with Prefect's errors reported in one line."""

import json
import traceback
from typing import TYPE_CHECKING

from flows.prefect_api import one_line, prefect_api
from moderation.errors import ModerationError, RunError, SettingsError
from moderation.planning.inputs import Inputs
from moderation.settings import RunSettings

if TYPE_CHECKING:
    from moderation.pipeline import Outcome

MOST_BYTES = 512 * 1024
"""Maximum size of a flow run's parameters that Prefect stores, as JSON."""


def moderated(settings: RunSettings, inputs: Inputs, *, quiet: bool = False) -> "Outcome":
    """Run the main flow.

    Raises:
        ModerationError: what the pipeline raises, or that Prefect's API failed; one line.
    """
    check_size(settings)
    with prefect_api(quiet=quiet):
        from flows.moderate import moderate  # noqa: PLC0415 - Prefect is imported in its surroundings, and nothing before it
        from moderation.pipeline import published  # noqa: PLC0415

        try:
            return moderate(settings)
        except ModerationError:
            raise
        except Exception as error:
            if not _is_of_prefect(error):
                raise
            outcome = published(inputs)
            if outcome is not None:  # Prefect's page alone does not know
                return outcome
            raise RunError(
                f"Prefect's API failed: {one_line(error)}; nothing was published: to resume, give the same command with "
                f"--run-id {settings.run_id}"
            ) from None


def _is_of_prefect(error: Exception) -> bool:
    """Whether it comes from a call of Prefect, not from one of the pipeline: Prefect raises errors of any kind."""
    frames = [frame.f_globals.get("__name__", "").partition(".")[0] for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((name for name in reversed(frames) if name in ("prefect", "flows", "moderation")), "") == "prefect"


def check_size(settings: RunSettings) -> None:
    """Raise `SettingsError` for settings too large for Prefect."""
    size = len(json.dumps({"settings": settings.model_dump(mode="json")}, separators=(",", ":")).encode())
    if size + 1024 > MOST_BYTES:  # what else a flow takes
        raise SettingsError(
            f"the settings are too large for Prefect: {size:,} bytes of at most {MOST_BYTES:,}, with {len(settings.sources):,} "
            "sources: give a manifest (a .csv, .jsonl or .parquet file with a column `uri`), or a prefix that contains them all"
        )
