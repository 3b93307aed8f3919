"""Rules of iCalendar that Prefect accepts and that never start a run: dateutil, which reads them, checks few numbers."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

from prefect.client.schemas.schedules import RRuleSchedule
from prefect.server.schemas import schedules as server

_LARGEST = {"BYMONTH": 12, "BYMONTHDAY": 31, "BYYEARDAY": 366, "BYWEEKNO": 53}
_SLOW = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY")
_MOST = 10_000
"""Runs of a rule with COUNT whose dates are all looked at."""
_SINCE = "without DTSTART before the rule, runs are counted from 2020"


def never(schedule: RRuleSchedule) -> tuple[str, datetime | None]:
    """Why a rule would never start a run; and when it would start the next one, where that can be said in bounded time."""
    rule = schedule.rrule.upper()
    parts = dict(re.findall(r"\b([A-Z]+)=([^;\s]*)", rule))
    interval = parts.get("INTERVAL", "1")
    if int(interval) < 1:
        return f"has an INTERVAL of {int(interval)}", None
    for key, largest in _LARGEST.items():
        numbers = [int(number) for number in parts.get(key, "").split(",") if number]
        if numbers and not any(1 <= (number if key == "BYMONTH" else abs(number)) <= largest for number in numbers):
            return f"never starts a run: {key} goes from 1 to {largest}", None
    single = rule.count("FREQ=") == 1 and "RDATE" not in rule
    until = parts.get("UNTIL", "")[:8]
    if single and until and datetime.strptime(until, "%Y%m%d").replace(tzinfo=UTC) < datetime.now(UTC) - timedelta(days=2):
        return f"never starts a run: it ended on {until[:4]}-{until[4:6]}-{until[6:]}", None
    if not _bounded(rule, parts):
        return "", None
    try:
        dates = asyncio.run(server.RRuleSchedule.model_construct(**dict(schedule)).get_dates(n=1, start=datetime.now(UTC)))
    except (ValueError, TypeError, ArithmeticError) as error:
        return f"never starts a run: {' '.join(str(error).split())[:200]}", None
    if dates:
        return "", dates[0]
    counted = single and "COUNT" in parts and "DTSTART" not in rule
    return "never starts a run" + (f": {_SINCE}" if counted else ""), None


def _bounded(rule: str, parts: dict[str, str]) -> bool:
    """Whether all dates up to the next one are soon looked at: they are, from day to day, but not from second to second."""
    if "EXRULE" in rule or rule.count("FREQ=") > 1:
        return False
    if "FREQ" not in parts or parts["FREQ"] in _SLOW:
        return True
    return int(parts.get("COUNT") or _MOST + 1) <= _MOST and not any(key.startswith("BY") for key in parts)
