"""Automations on a real Prefect server: checks that warn are told, and a flow run that its worker never began is begun."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import Prefect, command, until, webhook

from moderation.demo import IMAGES_DIR, POLICY_FILE
from moderation.results.manifest import published_manifests
from moderation.storage import Store

pytestmark = pytest.mark.slow

LOST_AFTER_S = 75
"""Seconds, for dead runs too: a heart beats every 30, and Prefect allows no less."""
SET_UP = f"""
import sys
from datetime import timedelta
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from flows import automations
data = {{"subject": "{{{{subject}}}}", "body": "{{{{body}}}}"}}
CustomWebhookNotificationBlock(name="pager", url=sys.argv[1], json_data=data).save("pager", overwrite=True)
automations.LOST_AFTER = timedelta(seconds={LOST_AFTER_S})
automations.set_up(["custom-webhook/pager"], dead_after=timedelta(seconds={LOST_AFTER_S}))
"""
LENIENT = "checks:\n  error_rate: {severity: warn}\n"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server with the deployments of the repository, that starts none by itself and links to its pages."""
    server = Prefect(tmp_path_factory.mktemp("prefect"))
    try:
        server.run("deploy", "--all")
        server.pause_schedules()
        yield server
    finally:
        server.stop()


def settings_of(folder: Path, broken: int) -> dict[str, Any]:
    """Of a run over four images and some broken ones."""
    images = folder / "images"
    images.mkdir()
    for path in sorted((IMAGES_DIR / "uploads").iterdir())[:4]:
        shutil.copy(path, images)
    for number in range(broken):
        (images / f"broken-{number}.jpg").write_bytes(b"no image %d" % number)
    (folder / "quality.yaml").write_text(LENIENT)
    return {
        "sources": [str(images)],
        "policy": str(POLICY_FILE),
        "output": str(folder / "out"),
        "quality": str(folder / "quality.yaml"),
        "device": "cpu",
    }


def test_lost_runs_are_restarted_and_warnings_sent(prefect: Prefect, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, broken=30)
    with webhook() as (url, received):
        command([sys.executable, "-W", "ignore", "-c", SET_UP, url], prefect.environment)
        run = prefect.start_run("moderate/nightly", {"settings": settings}, state={"type": "PENDING"})  # and its worker is gone
        until(
            lambda: prefect.flow_run(run)["state_name"] == "AwaitingRetry", 200, "nobody noticed", prefect.home / "server.log"
        )
        assert "its worker never started it" in prefect.flow_run(run)["state"]["message"]
        prefect.worker()
        ended = prefect.wait(run)
        assert (ended["state_name"], ended["run_count"]) == ("Completed", 1), ended["state"]["message"]
        until(lambda: bool(received), 60, "nobody was told", prefect.home / "server.log")
    (manifest,) = published_manifests(Store(settings["output"]))
    assert (manifest.listed, manifest.scored, manifest.errored) == (34, 4, 30)
    (told,) = received
    assert told["subject"] == "Published with a warning: error_rate"
    for words in (manifest.run_id, "error_rate", "30 of 34", "Listed 34, scored 4, errors 30", f"/runs/flow-run/{run}"):
        assert words in told["body"], told["body"]
