"""What Prefect's schedules do when clocks change, as docs/operations.md says. They are asked as Prefect's scheduler asks."""

import asyncio
import re
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from operations_page import section
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule

ZONE = "Europe/Berlin"
MARCH, OCTOBER = datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC)
"""The evenings before clocks change."""
DAILY = {"interval": 86400, "anchor_date": "2026-01-01T02:30:00+01:00"}
HOURLY = {"interval": 3600, "anchor_date": "2026-01-01T00:30:00+00:00"}

with_pendulum = sys.version_info < (3, 13)
"""Prefect computes with another library from Python 3.13 on: there only the number of runs is held."""


def starts(schedule: dict[str, Any], first: datetime, hours: int) -> list[datetime]:
    """When runs would start, in Berlin, if Prefect is asked for the next two every ten minutes."""
    kind = CronSchedule if "cron" in schedule else IntervalSchedule
    parsed = kind.model_validate({"timezone": ZONE, **schedule})

    async def ask() -> set[datetime]:
        found: set[datetime] = set()
        for minutes in range(0, 60 * hours, 10):
            dates = await parsed.get_dates(n=2, start=first + timedelta(minutes=minutes))
            found |= {date.astimezone(UTC) for date in dates}
        return found

    until = first + timedelta(hours=hours)
    return [date.astimezone(ZoneInfo(ZONE)) for date in sorted(asyncio.run(ask())) if date < until]


def told(dates: list[datetime]) -> list[str]:
    return [f"{date:%d %b %H:%M %Z}" for date in dates]


@pytest.mark.parametrize(
    ("cron", "march", "october"),
    [
        ("30 2 * * *", ["29 Mar 01:30 CET", "30 Mar 02:30 CEST"], ["25 Oct 02:30 CEST", "26 Oct 02:30 CET"]),
        ("0 3 * * *", ["29 Mar 03:00 CEST", "30 Mar 03:00 CEST"], ["25 Oct 03:00 CET", "26 Oct 03:00 CET"]),
    ],
)
def test_a_nightly_cron_starts_one_run_a_night(cron: str, march: list[str], october: list[str]) -> None:
    for evening, expected in ((MARCH, march), (OCTOBER, october)):
        found = starts({"cron": cron}, evening, 32)
        assert [date.date() for date in found] == [evening.date() + timedelta(days=day) for day in (1, 2)]
        if with_pendulum:
            assert told(found) == expected


def test_an_hourly_interval_starts_a_run_each_hour_and_a_cron_leaves_one_out() -> None:
    for evening in (MARCH, OCTOBER):
        for zone in (ZONE, "UTC"):
            found = starts({**HOURLY, "timezone": zone}, evening, 9)
            assert [after.astimezone(UTC) - before.astimezone(UTC) for before, after in pairwise(found)] == (
                [timedelta(hours=1)] * (len(found) - 1)
            )
            assert len(found) == 9
    if with_pendulum:
        assert len(starts({"cron": "30 * * * *"}, MARCH, 9)) == 9
        left_out = starts({"cron": "30 * * * *"}, OCTOBER, 9)
        assert len(left_out) == 8
        assert "25 Oct 02:30 CET" not in told(left_out)


def test_a_daily_interval_moves_and_starts_twice() -> None:
    assert told(starts({**DAILY, "timezone": "UTC"}, OCTOBER, 32)) == ["25 Oct 02:30 CET", "26 Oct 02:30 CET"]
    if with_pendulum:
        assert told(starts(DAILY, MARCH, 32)) == ["29 Mar 03:30 CEST", "30 Mar 03:30 CEST"]
        twice = ["25 Oct 02:30 CET", "25 Oct 03:30 CET", "26 Oct 02:30 CET", "26 Oct 03:30 CET", "27 Oct 02:30 CET"]
        assert told(starts(DAILY, OCTOBER, 56)) == twice


def test_the_operations_page_has_a_row_for_each_kind_of_schedule() -> None:
    table = section("First deployment").partition("### Daylight saving")[2]
    assert re.findall(r"^\| `(?:cron|interval): \"?([^`\"]+)\"?`", table, re.MULTILINE) == [
        "30 2 * * *",
        "0 3 * * *",
        "30 * * * *",
        "3600",
        "86400",
    ]
