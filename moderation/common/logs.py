"""Logs that machines read: a JSON object per line, with the run, its stage and, where it is about one, the shard."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]

FORMAT_VARIABLE = "MODERATION_LOG_FORMAT"
"""What the format is where nobody says it on a command line: in a worker, a container, a cron job."""

_LOGGERS = ("moderation", "flows")
_FIELDS = ("shard", "objects", "errors", "seconds", "listed", "scored", "reason")
"""What a line may carry as `extra` besides its text."""

_about: ContextVar[dict[str, str]] = ContextVar("about", default={})  # noqa: B039 - it is only ever replaced


def about(run: str, stage: str) -> None:
    """Say what the lines are about that this context writes from now on."""
    _about.set({"run": run, "stage": stage})


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """`time` (ISO 8601, UTC), `level`, `logger`, `message`, `run`, `stage`, and of `_FIELDS` what the record has."""
        content: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
            **{name: getattr(record, name) for name in _FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def log_format(asked: LogFormat | None = None) -> LogFormat:
    """What was asked for, or else what the environment says. Anything but `json` there is `text`."""
    return asked or ("json" if os.environ.get(FORMAT_VARIABLE, "").strip().lower() == "json" else "text")


@contextmanager
def json_lines() -> Iterator[None]:
    """This program's logs, from INFO up, go to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate, logger.disabled) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate, logger.disabled = False, False
    try:
        yield
    finally:
        for logger, (level, propagate, disabled) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
