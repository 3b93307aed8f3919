"""`moderate deploy --check --offline`: what Prefect would refuse of prefect.yaml, or ignore, is an error at its line."""

import re
from pathlib import Path

import pytest
from deployed import ROOT

from flows.deploying import check_file
from flows.schedules import check_schedule
from moderation.deployment.file import read_deployments

FILE = """\
deployments:
  - name: nightly
    entrypoint: flows/moderate.py:moderate
    version: "1"
    tags: [a, b]
    description: Every night.
    paused: false
    concurrency_limit: 1
    enforce_parameter_schema: true
    parameters:
      settings: {sources: [images], policy: policy.yaml, output: out}
      when_busy: wait
    schedules:
      - cron: "0 2 * * *"
        timezone: Europe/Berlin
        slug: night
      - interval: 3600
        anchor_date: "2026-01-01T00:30:00+00:00"
        active: yes
        slug: hour
      - rrule: "FREQ=DAILY;BYHOUR=2"
        timezone: Europe/Berlin
        parameters: {when_busy: cancel}
    work_pool:
      name: moderation
      job_variables: {env: {RETRIES: "2"}, stream_output: true}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployments")
    (folder / "images").mkdir()
    (folder / "images" / "1.jpg").write_bytes(b"x")
    (folder / "flows").symlink_to(ROOT / "flows")
    (folder / "broken.py").write_text("def flow(:\n")
    (folder / "policy.yaml").write_text(
        "policy: p\nmodel: {name: demo}\nrules: [{id: a, prompts: [a gun], review: 0.5}]\ncontrast: [x]\n"
    )
    return folder


def wrong(folder: Path, text: str) -> list[str]:
    """`line: message; hint` of everything that is wrong."""
    (folder / "prefect.yaml").write_text(text)
    checks = check_file(read_deployments(folder / "prefect.yaml"))
    return [f"{found.line}: {found.message}; {found.hint}" for found in checks.findings]


def test_a_good_file_says_when_its_runs_would_start(folder: Path) -> None:
    assert wrong(folder, FILE) == []
    checks = check_file(read_deployments(folder / "prefect.yaml"))
    schedules = [row.found for row in checks.checked if row.what == "schedule"]
    assert re.fullmatch(r"0 2 \* \* \*, Europe/Berlin: next at \d{4}-\d\d-\d\d 02:00 CES?T", schedules[0])
    assert re.fullmatch(r"every 3600 s, UTC: next at \d{4}-\d\d-\d\d \d\d:30 UTC", schedules[1])
    assert re.fullmatch(r"FREQ=DAILY;BYHOUR=2, Europe/Berlin: next at \d{4}-\d\d-\d\d 02:00 CES?T", schedules[2])


CRON = 'cron: "0 2 * * *"'
WRONG = {
    # time zones
    "time zone": (
        "timezone: Europe/Berlin\n        slug",
        "timezone: Europe/Berln\n        slug",
        "15: .*did you mean `Europe/Berlin`",
    ),
    "time zone of an interval": ("anchor_date", "timezone: MEZ\n        anchor_date", "18: .*`timezone: MEZ`.*IANA"),
    "time zone of an rrule": ("timezone: Europe/Berlin\n        param", "timezone: '+01:00'\n        param", "22: .*IANA"),
    "time zone in small letters": (
        "timezone: Europe/Berlin\n        slug",
        "timezone: europe/berlin\n        slug",
        "15: .*did you mean `Europe/Berlin`",
    ),
    "time zone that is none": (
        "timezone: Europe/Berlin\n        slug",
        "timezone: Factory\n        slug",
        "15: .*`timezone: Factory` is refused.*IANA",
    ),
    "time zone in braces": (
        "timezone: Europe/Berlin\n        slug",
        'timezone: "{{ Europe/Berlin }}"\n        slug',
        "15: .*`timezone: {{ Europe/Berlin }}` is refused",
    ),
    "time zone that is no text": (
        "timezone: Europe/Berlin\n        slug",
        "timezone: 1\n        slug",
        "15: .*`timezone` should be a valid string",
    ),
    # intervals
    "interval with a unit": ("interval: 3600", "interval: 60m", "17: .*`interval: 60m` is refused.*seconds, such as 3600"),
    "interval as text": ("interval: 3600", "interval: '3600'", "17: .*`interval: 3600`.*give seconds"),
    "interval of nothing": ("interval: 3600", "interval: 0", "17: .*`interval: 0`.*greater than 0"),
    "interval below nothing": ("interval: 3600", "interval: -5", "17: .*greater than 0"),
    "interval without end": ("interval: 3600", "interval: .inf", "17: .*`interval: inf`"),
    "interval of years": ("interval: 3600", "interval: 999999999999", "17: .*`interval: 999999999999`"),
    "interval that is a list": ("interval: 3600", "interval: [1]", "17: .*`interval: .*give seconds"),
    "interval true": ("interval: 3600", "interval: true", "17: .*`interval: True`.*give seconds"),
    # anchors
    "German date": ('"2026-01-01T00:30:00+00:00"', "01.02.2026", "18: .*`anchor_date: 01.02.2026`.*year first"),
    "day that is not": ('"2026-01-01T00:30:00+00:00"', '"2026-02-30"', "18: .*`anchor_date: 2026-02-30`"),
    "date without quotes": ('"2026-01-01T00:30:00+00:00"', "2026-01-01", "18: .*valid string.*in quotes"),
    "anchor of a cron": (CRON, CRON + "\n        anchor_date: '2026-01-01'", "15: .*`anchor_date` belongs to `interval`"),
    # rrules
    "rrule": ("FREQ=DAILY;BYHOUR=2", "FREQ=HURLY", "21: .*`rrule: FREQ=HURLY`.*such as"),
    "rrule without FREQ": ("FREQ=DAILY;BYHOUR=2", "INTERVAL=2", "21: .*`rrule: INTERVAL=2`"),
    "rrule of hour 25": ("BYHOUR=2", "BYHOUR=25", "21: .*hour must be in 0..23"),
    "rrule that stands still": ("BYHOUR=2", "INTERVAL=0", "21: .*INTERVAL of 0"),
    "rrule in JSON": ('"FREQ=DAILY;BYHOUR=2"', """'{"rrule": "FREQ=HURLY"}'""", "21: .*HURLY"),
    "rrule that goes backwards": ("BYHOUR=2", "INTERVAL=-1", "21: .*INTERVAL of -1"),
    "rrule that has ended": ("BYHOUR=2", "UNTIL=20240101T000000", "21: .*never starts a run: it ended on 2024-01-01"),
    "rrule counted from 2020": (
        "BYHOUR=2",
        "COUNT=10",
        "21: .*never starts a run: without DTSTART before the rule, runs are counted from 2020",
    ),
    "hours counted from 2020": ("DAILY;BYHOUR=2", "HOURLY;COUNT=24", "21: .*never starts a run: .*counted from 2020"),
    "rrule of month 13": ("BYHOUR=2", "BYMONTH=13", "21: .*never starts a run: BYMONTH goes from 1 to 12"),
    "rrule of day 32": ("FREQ=DAILY;BYHOUR=2", "FREQ=MONTHLY;BYMONTHDAY=32", "21: .*BYMONTHDAY goes from 1 to 31"),
    "rrule of 30 February": ("FREQ=DAILY;BYHOUR=2", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "21: .*never starts a run"),
    "dates that are over": ("FREQ=DAILY;BYHOUR=2", "RDATE:20200101T000000", "21: .*never starts a run"),
    "rrule without quotes": ('"FREQ=DAILY;BYHOUR=2"', "*daily", '21: `\\*` has a special.*quotes around it: "\\*daily"$'),
    # templates that Prefect does not fill in
    "cron in a filter": (CRON, 'cron: "{{ at | default }}"', "14: .*`cron: {{ at . default }}` is refused"),
    "template without quotes": (CRON, "cron: {{ prefect.variables.cron }}", "14: "),
    "limit in broken braces": ("concurrency_limit: 1", 'concurrency_limit: "{{ limit }"', "8: .*greater than 0"),
    # crons
    "minute 61": ("0 2 * * *", "61 * * * *", "14: .*`cron: 61 \\* \\* \\* \\*` is refused by Prefect: Invalid cron"),
    "four fields": ("0 2 * * *", "0 2 * *", "14: .*minute, hour, day, month, weekday"),
    "six fields": ("0 2 * * *", "0 0 2 * * *", "14: .*6 fields: Prefect reads the sixth as seconds"),
    "no cron at all": ("0 2 * * *", "every night", "14: .*every night"),
    "reboot": ("0 2 * * *", "@reboot", "14: .*@reboot"),
    "hashed": ("0 2 * * *", "H 2 * * *", "14: .*H 2"),
    "30 February": ("0 2 * * *", "0 0 30 2 *", "14: .*never starts a run"),
    "cron that is a number": (CRON, "cron: 5", '14: .*`cron` should be a valid string.*put it in quotes: "5"'),
    "cron without quotes": (CRON, "cron: * * * * *", r'14: `\*` has a special meaning.*quotes around it: "\* \* \* \* \*"$'),
    "day_or": (CRON, CRON + "\n        day_or: maybe", "15: .*`day_or: maybe`.*true or false"),
    "day_or of an interval": ("interval: 3600", "interval: 3600\n        day_or: true", "18: .*`day_or` belongs to `cron`"),
    # schedules as wholes
    "cron and interval": (CRON, CRON + "\n        interval: 60", "14: .*both `cron` and `interval`"),
    "no kind of schedule": (
        CRON + "\n        timezone",
        "timezone",
        "14: .*needs one of `cron`, `interval` and `rrule`, and has none",
    ),
    "mistyped kind": (CRON, 'crn: "0 2 * * *"', "14: .*unknown key `crn`.*did you mean `cron`"),
    "schedules as a mapping": ("schedules:\n      - cron", "schedules:\n        cron", "17: this line is indented by 6 spaces"),
    "schedule as text": (
        '- cron: "0 2 * * *"\n        timezone: Europe/Berlin\n        slug: night',
        '- "0 2 * * *"',
        "14: .*dictionary or instance|14: .*mapping",
    ),
    "active": ("active: yes", "active: yes please", "19: .*`active` should be true or false, not 'yes please'"),
    "catchup": ("active: yes", "catchup: false", "19: .*unknown key `catchup`, which Prefect ignores.*known keys: cron"),
    "max_active_runs": ("active: yes", "max_active_runs: 1", "19: .*unknown key `max_active_runs`"),
    "slug that is a number": ("slug: hour", "slug: 5", "20: .*`slug` should be a valid string"),
    "slug twice": ("slug: hour", "slug: night", "(16|20): .*two schedules have the slug 'night'"),
    "parameter of a schedule": (
        "{when_busy: cancel}",
        "{when_bussy: cancel}",
        "23: .*no parameter `when_bussy`.*did you mean `when_busy`",
    ),
    "value of a schedule": ("{when_busy: cancel}", "{when_busy: never}", "23: .*`when_busy`.*never"),
    "settings of a schedule": (
        "{when_busy: cancel}",
        "{settings: {sourcez: x, sources: [images], policy: p.yaml, output: o}}",
        "23: .*unknown setting `sourcez`",
    ),
    # parameters
    "unknown parameter": ("when_busy: wait", "when_busi: wait", "12: .*no parameter `when_busi`.*did you mean `when_busy`"),
    "unknown setting": (
        "output: out",
        "output: out, bach_size: 5",
        "11: .*unknown setting `bach_size`.*did you mean `batch_size`",
    ),
    "setting of a wrong type": ("output: out", "output: out, batch_size: many", "11: .*`batch_size` should be a valid integer"),
    "when_busy": ("when_busy: wait", "when_busy: maybe", "12: .*wait or cancel"),
    "when_busy that Prefect reads as false": ("when_busy: wait", "when_busy: no", "12: .*`when_busy`"),
    "parameters as text": (
        "parameters:\n      settings: {sources: [images], policy: policy.yaml, output: out}\n      when_busy: wait",
        "parameters: all",
        "10: .*`parameters` should be a valid dictionary",
    ),
    # the deployment
    "unknown key": ("paused: false", "pausd: false", "7: .*unknown key `pausd`.*did you mean `paused`"),
    "paused": ("paused: false", "paused: maybe", "7: .*`paused` should be a valid boolean"),
    "version that is a number": (
        'version: "1"',
        "version: 1.0",
        '4: .*`version` should be a valid string.*put it in quotes: "1.0"',
    ),
    "tags as text": ("tags: [a, b]", "tags: a", "5: .*`tags` should be a valid list"),
    "tags with a number": (
        "tags: [a, b]",
        "tags: [a, 2026]",
        '5: .*should be a valid string, not 2026.*put it in quotes: "2026"',
    ),
    "limit of nothing": (
        "concurrency_limit: 1",
        "concurrency_limit: 0",
        "8: .*`concurrency_limit` should be greater than 0, not 0",
    ),
    "limit as text": ("concurrency_limit: 1", "concurrency_limit: one", "8: .*not 'one'"),
    "limit true": ("concurrency_limit: 1", "concurrency_limit: true", "8: .*not True"),
    "strategy": (
        "concurrency_limit: 1",
        "concurrency_limit: {limit: 1, collision_strategy: WAIT}",
        "8: .*`collision_strategy`.*CANCEL_NEW",
    ),
    "grace": (
        "concurrency_limit: 1",
        "concurrency_limit: {limit: 1, collision_strategy: ENQUEUE, grace_period_seconds: 5}",
        "8: .*`grace_period_seconds`.*60",
    ),
    "limit in a mapping": (
        "concurrency_limit: 1",
        "concurrency_limit: {limit: 0, collision_strategy: ENQUEUE}",
        "8: .*greater than 0",
    ),
    "name with a slash": ("name: nightly", "name: nightly/second", "2: .*`name` should match pattern"),
    "trigger": (
        "paused: false",
        "triggers: [{type: evnt}]",
        "7: .*Prefect has no such trigger",
    ),
    "triggers as a mapping": ("paused: false", "triggers: {type: event}", "7: .*`triggers` should be a valid list"),
    "enforce": ("enforce_parameter_schema: true", "enforce_parameter_schema: 2", "9: .*valid boolean"),
    "name twice": (
        "deployments:\n",
        "deployments:\n  - {name: nightly, entrypoint: a.b.c, work_pool: {name: p}}\n",
        "two deployments are named 'nightly'",
    ),
    # entrypoints
    "file that is not there": (
        "flows/moderate.py:moderate",
        "flow/moderate.py:moderate",
        "3: .*no such file or directory: flow/moderate.py; path/to/file.py:function",
    ),
    "function that is not there": (
        "flows/moderate.py:moderate",
        "flows/moderate.py:moderat",
        "3: .*there is no 'moderat' in flows/moderate.py",
    ),
    "no function": ("flows/moderate.py:moderate", "flows/moderate.py", "3: .*names no flow"),
    "file that is no Python": ("flows/moderate.py:moderate", "broken.py:flow", "3: .*not valid Python"),
    # work pools
    "no work pool": ("      name: moderation\n", "", "names no work pool"),
    "work pool as text": (
        'work_pool:\n      name: moderation\n      job_variables: {env: {RETRIES: "2"}, stream_output: true}',
        "work_pool: moderation",
        "24: .*(names no work pool|valid dictionary)",
    ),
    "key of a work pool": ("job_variables", "job_variable", "26: .*unknown key `job_variable`.*did you mean `job_variables`"),
    "number in the environment": ('RETRIES: "2"', "RETRIES: 2", "26: .*`RETRIES` should be text, not int; put it in quotes"),
    "environment as text": ('env: {RETRIES: "2"}', "env: RETRIES=2", "26: .*`env` should be a mapping"),
    "job variables as a list": (
        '{env: {RETRIES: "2"}, stream_output: true}',
        "[a]",
        "26: .*`job_variables` should be a valid dictionary",
    ),
    # the file
    "tab": ("    version", "\tversion", "4: there is a tab in the indentation"),
    "key twice": ("paused: false", "paused: false\n    paused: true", "8: the key `paused` appears twice"),
    "date that only Prefect's parser reads": (
        "description: Every night.",
        "description: 2026-13-45",
        "Prefect cannot read this",
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), WRONG.values(), ids=WRONG)
def test_what_prefect_would_refuse_is_an_error_at_its_line(folder: Path, old: str, new: str, expected: str) -> None:
    assert old in FILE
    found = wrong(folder, FILE.replace(old, new, 1))
    assert any(re.match(expected, line) or re.search(rf"^\d+: .*(?:{expected})", line) for line in found), found
    assert len(found) <= 2, "one mistake, one error"


RIGHT = {
    "daily": ("0 2 * * *", "@daily"),
    "names of days": ("0 2 * * *", "0 2 * jan,jul mon-fri"),
    "last day": ("0 2 * * *", "0 2 L * *"),
    "interval in ISO 8601": ("interval: 3600", "interval: PT1H"),
    "interval by the clock": ("interval: 3600", 'interval: "01:00:00"'),
    "interval that YAML 1.1 counts in sixties": ("interval: 3600", "interval: 1:00:00"),
    "date alone": ('"2026-01-01T00:30:00+00:00"', '"2026-01-01"'),
    "day_or": (CRON, CRON + "\n        day_or: false"),
    "active as text": ("active: yes", 'active: "false"'),
    "no schedules": (FILE[FILE.index("    schedules:") : FILE.index("    work_pool:")], "    schedules: []\n"),
    "one schedule": (FILE[FILE.index("    schedules:") : FILE.index("    work_pool:")], "    schedule: {cron: '0 2 * * *'}\n"),
    "rrule with a start": ("FREQ=DAILY;BYHOUR=2", r"DTSTART:20260101T020000\nRRULE:FREQ=DAILY"),
    "rrule in JSON": ('"FREQ=DAILY;BYHOUR=2"', """'{"rrule": "FREQ=DAILY"}'"""),
    "rrule that is counted from its start": ("FREQ=DAILY;BYHOUR=2", r"DTSTART:29990101T020000\nRRULE:FREQ=DAILY;COUNT=3"),
    "rrule until next century": ("BYHOUR=2", "UNTIL=21260101T000000"),
    "rrule by the minute": ("FREQ=DAILY;BYHOUR=2", "FREQ=MINUTELY;BYHOUR=2"),
    "limit with a strategy": ("concurrency_limit: 1", "concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}"),
    "entrypoint with a dot": ("flows/moderate.py", "./flows/moderate.py"),
    "entrypoint of a module": ("flows/moderate.py:moderate", "flows.moderate.moderate"),
    "templates": ("concurrency_limit: 1", 'concurrency_limit: "{{ prefect.variables.limit }}"'),
    "trigger": ("paused: false", "triggers: [{enabled: true, expect: [external.resource.pinged]}]"),
    "cron from a variable": (CRON, 'cron: "{{ prefect.variables.cron }}"'),
    "version from the environment": ('version: "1"', 'version: "{{ $GIT_SHA }}"'),
}


@pytest.mark.parametrize(("old", "new"), RIGHT.values(), ids=RIGHT)
def test_what_prefect_accepts_is_accepted(folder: Path, old: str, new: str) -> None:
    assert old in FILE
    assert wrong(folder, FILE.replace(old, new, 1)) == []


def test_every_mistake_of_a_deployment_is_reported_at_once(folder: Path) -> None:
    text = FILE.replace("Europe/Berlin\n        slug", "Europe/Berln\n        slug").replace("3600", "60m")
    text = text.replace('"2026-01-01T00:30:00+00:00"', '"01.02.2026"').replace("FREQ=DAILY", "FREQ=HURLY")
    text = text.replace("concurrency_limit: 1", "concurrency_limit: 0").replace("yes", "yes please")
    lines = [int(line.partition(":")[0]) for line in wrong(folder, text)]
    assert set(lines) >= {8, 15, 18, 19, 21}


def test_values_of_job_variables_are_not_shown(folder: Path) -> None:
    (folder / "prefect.yaml").write_text(FILE.replace('RETRIES: "2"', "KEY: 55501234, API_TOKEN: hush-hush"))
    findings = check_file(read_deployments(folder / "prefect.yaml")).findings
    assert len(findings) == 2
    assert not [found for found in findings if "55501234" in str(found) or "hush" in str(found)]


def test_an_inactive_schedule_says_so() -> None:
    for active in (False, "off", 0):
        assert check_schedule({"cron": "0 2 * * *", "active": active}) == ([], "0 2 * * *, UTC: inactive")
