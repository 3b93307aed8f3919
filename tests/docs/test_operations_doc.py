"""docs/operations.md names everything that somebody who is woken at night may look for."""

import re

import pytest
import yaml
from operations_page import PAGE, section
from places import ROOT


def test_every_automation_is_in_the_operations_page() -> None:
    from flows.automations import RESUME, TELL

    named = re.findall(r"^\| `(clip-moderation: [^`]+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted((*RESUME, *TELL))


def test_every_deployment_is_in_the_operations_page() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    named = re.findall(r"^\| `(\w+/[\w-]+)` \|", section("First deployment"), re.MULTILINE)
    assert named == [f"{one['flow_name']}/{one['name']}" for one in deployments]


def test_the_runbook_has_every_alert_and_every_check_that_has_limits() -> None:
    from moderation.quality.quality_limits import CheckLimits, QualityLimits

    runbook = section("Runbook")
    rules = yaml.safe_load((ROOT / "docker" / "observability" / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in rules for rule in group["rules"]}
    assert alerts == set(re.findall(r"^\| (Moderation\w+)", runbook, re.MULTILINE))
    checks = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| Quarantined: [^|]+\|", runbook, re.MULTILINE))))
    assert checks == {name for name, limits in QualityLimits().checks if type(limits) is not CheckLimits}


@pytest.mark.parametrize("page", ["operations.md", "security.md", "../docker/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / "docs" / page
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = file if not path else (file.parent / path)
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, link
