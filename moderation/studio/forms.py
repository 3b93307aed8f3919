"""What a page sends: forms and JSON, as plain values."""

import json
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from moderation.errors import SettingsError

MOST_FIELDS = 50


async def form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises `SettingsError`."""
    try:
        fields = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise SettingsError("this form cannot be read: reload the page and try again") from None
    return dict(fields)


async def content(request: Request) -> dict[str, Any]:
    """A JSON object. Raises `SettingsError`."""
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SettingsError("this request cannot be read: reload the page and try again")
    return found


def text_in(values: dict[str, Any], name: str) -> str:
    """A text among the values. Raises `SettingsError`."""
    value = values.get(name)
    if not isinstance(value, str):
        raise SettingsError(f"{name} is missing: reload the page and try again")
    return value


def required(values: dict[str, str], name: str, what: str, most: int) -> str:
    """A text that a person must give. Raises `SettingsError`, which says so."""
    value = values.get(name, "").strip()
    if not value:
        raise SettingsError(f"give {what}")
    if len(value) > most:
        raise SettingsError(f"{what} is longer than {most:,} characters")
    return value
