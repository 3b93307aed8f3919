"""Schedules of prefect.yaml as Prefect's own classes read them: what they refuse, and when the next run would start."""

import asyncio
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import available_timezones

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.server.schemas import schedules as server
from prefect.types._datetime import parse_datetime
from pydantic import ValidationError

from flows.deployment_shape import is_template
from flows.rrules import never

Schedule = CronSchedule | IntervalSchedule | RRuleSchedule

KINDS = ("cron", "interval", "rrule")
GOES_WITH = {"day_or": "cron", "anchor_date": "interval"}
"""Keys that Prefect ignores beside other kinds of schedules."""
HINTS = {
    "cron": 'minute, hour, day, month, weekday, in quotes: "0 2 * * *"',
    "interval": "give seconds, such as 3600",
    "rrule": 'such as "FREQ=DAILY;BYHOUR=2;BYMINUTE=30"',
    "timezone": "give a name of the IANA database, such as Europe/Berlin",
    "anchor_date": 'in quotes, year first: "2026-01-31T02:00:00+01:00"',
    "active": "write true or false",
    "day_or": "write true or false",
}
REFUSED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What Prefect's classes raise on values that they cannot use; pydantic's errors are `ValueError`s."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A problem with one value."""

    key: str
    """where, below the schedule; empty for the schedule as a whole"""
    message: str
    hint: str = ""


def check_schedule(entry: Mapping[str, Any]) -> tuple[list[Refusal], str]:
    """What Prefect refuses of a schedule, and in words what it makes of it.

    Args:
        entry: one of `schedules`, of known keys.
    """
    given = {key: value for key, value in entry.items() if value is not None}
    kinds = [kind for kind in KINDS if kind in given]
    if len(kinds) != 1:
        wording = f"both {' and '.join(f'`{kind}`' for kind in kinds)}" if kinds else "none of them"
        return [Refusal("", f"a schedule needs one of `cron`, `interval` and `rrule`, and has {wording}")], ""
    [kind] = kinds
    refusals = [
        Refusal(key, f"`{key}` belongs to `{goes_with}`, not to `{kind}`", "remove it")
        for key, goes_with in GOES_WITH.items()
        if key in given and goes_with != kind
    ]
    refusals += _common(given)
    if is_template(given[kind]):
        return refusals, f"{kind}: filled in by Prefect when it deploys"
    schedule = None
    values = {key: given[key] for key in (kind, "timezone", "anchor_date", "day_or") if key in given}
    values = {key: value for key, value in values.items() if not is_template(value) and GOES_WITH.get(key, kind) == kind}
    try:
        schedule = _schedule(values)
    except _AnchorError as error:
        refusals.append(_refusal("anchor_date", values, str(error)))
    except ValidationError as error:
        refusals += [_refusal(_key(details, values), values, details["msg"]) for details in error.errors()]
    except REFUSED as error:
        refusals.append(_refusal(kind, values, str(error)))
    if schedule is None or refusals:
        return refusals, ""
    try:
        reason, following = never(schedule) if isinstance(schedule, RRuleSchedule) else _next(schedule)
    except KeyError:  # a time zone such as `Factory`, which Prefect's classes let through
        return [_refusal("timezone", values, "no schedule's dates can be computed in it")], ""
    if reason:
        return [Refusal(kind, f"`{kind}: {_shown(values[kind])}` {reason}", HINTS[kind])], ""
    inactive = str(given.get("active")).lower() in ("false", "no", "off", "n", "f", "0")  # as Prefect reads it
    return [], _in_words(schedule, following, active=not inactive)


class _AnchorError(ValueError):
    """`anchor_date` is not a date."""


def _schedule(values: dict[str, Any]) -> Schedule:
    """As `prefect deploy` does it."""
    if "cron" in values:
        return CronSchedule(**values)
    if "interval" in values:
        interval = values["interval"]
        if isinstance(interval, bool):
            raise ValueError("should be seconds")
        values = {**values, "interval": timedelta(seconds=interval) if isinstance(interval, int | float) else interval}
        if "anchor_date" in values:
            try:
                values["anchor_date"] = parse_datetime(values["anchor_date"])
            except REFUSED as error:
                raise _AnchorError(str(error)) from None
        return IntervalSchedule(**values)
    try:
        inner = json.loads(values["rrule"])
    except ValueError:
        return RRuleSchedule(**values)
    schedule = RRuleSchedule(**inner)
    return RRuleSchedule(rrule=schedule.rrule, timezone=values.get("timezone") or schedule.timezone)


def _common(given: dict[str, Any]) -> Iterator[Refusal]:
    """Keys that every schedule can have."""
    more = {key: given[key] for key in ("active", "slug", "replaces", "parameters") if key in given}
    more = {key: value for key, value in more.items() if not is_template(value)}
    try:
        DeploymentScheduleCreate(schedule=CronSchedule(cron="0 0 * * *"), **more)
    except ValidationError as error:
        for details in error.errors():
            key = str(details["loc"][0])
            message = f"`{key}` should be true or false, not {_shown(given[key])!r}" if key == "active" else ""
            yield Refusal(key, message or f"`{key}`: {_words(details['msg'])}", HINTS.get(key, ""))


def _key(details: Any, values: dict[str, Any]) -> str:
    """The key that an error of Prefect's classes is about. They report a wrong time zone without one."""
    if details["loc"]:
        return str(details["loc"][0])
    return "timezone" if "timezone" in values else next(iter(values))


def _refusal(key: str, values: dict[str, Any], reason: str) -> Refusal:
    value = values.get(key)
    hint = HINTS.get(key, "")
    if key == "timezone" and isinstance(value, str):
        names = {name.casefold(): name for name in available_timezones()}
        near = [name for name in difflib.get_close_matches(value.casefold(), names, cutoff=0.7) if names[name] != value]
        hint = f"did you mean `{names[near[0]]}`?" if near else hint
    return Refusal(key, f"`{key}: {_shown(value)}` is refused by Prefect: {_words(reason)}", hint)


def _next(schedule: CronSchedule | IntervalSchedule) -> tuple[str, datetime | None]:
    """Why a schedule would never start a run, or far too many; and when it would start the next one.

    Raises `KeyError` on a time zone that cannot be used.
    """
    match schedule:
        case CronSchedule(cron=cron) if len(cron.split()) > 5:
            return f"has {len(cron.split())} fields: Prefect reads the sixth as seconds, and may start a run each second", None
        case CronSchedule():
            known: server.CronSchedule | server.IntervalSchedule = server.CronSchedule.model_construct(**dict(schedule))
        case IntervalSchedule():
            known = server.IntervalSchedule.model_construct(**dict(schedule))
    try:
        dates = asyncio.run(known.get_dates(n=1, start=datetime.now(UTC)))
    except KeyError:
        raise
    except REFUSED as error:
        return f"never starts a run: {_words(str(error))}", None
    return ("", dates[0]) if dates else ("never starts a run", None)


def _in_words(schedule: Schedule, following: datetime | None, *, active: bool) -> str:
    match schedule:
        case CronSchedule():
            what = schedule.cron
        case IntervalSchedule():
            what = f"every {schedule.interval.total_seconds():g} s"
        case RRuleSchedule():
            what = schedule.rrule
    when = ": inactive" if not active else f": next at {following:%Y-%m-%d %H:%M %Z}" if following else ""
    return f"{what}, {schedule.timezone or 'UTC'}{when}"


def _words(text: str) -> str:
    return re.sub(r"^(Value error, |Input )", "", " ".join(text.split()))[:200]


def _shown(value: object) -> str:
    return ascii(value) if not isinstance(value, str) else "".join(c if c.isprintable() else " " for c in value)[:60]
