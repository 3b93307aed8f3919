"""Prefect's automations of the deployments: crashed runs resume automatically, and people are notified of problems.

They act on flow runs with the tag `clip-moderation`. `moderate deploy` makes them, or brings them up to date.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture, ResourceSpecification
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.exceptions import ObjectNotFound

from flows.announcing import PREFIX
from flows.flow_failures import UNREACHABLE
from moderation.errors import SettingsError

TAG = "clip-moderation"
"""The tag of the deployments that the automations look after."""
DEAD_AFTER = timedelta(seconds=180)
"""A flow run that sends a heartbeat every 30 seconds (prefect.yaml) and has been silent this long is dead."""
QUIET = timedelta(seconds=30)
"""How long a crashed flow run is left alone: a worker reports a crash twice, some seconds apart."""
LOST_AFTER = timedelta(minutes=10)
"""A flow run that has not started this long after a worker accepted it is lost, perhaps with its worker."""
MOST_ATTEMPTS = 6
"""A run that crashes this often is not restarted: a person should look at it."""

RESUME = (f"{PREFIX}: mark dead runs as crashed", f"{PREFIX}: resume crashed runs", f"{PREFIX}: restart lost runs")
_FORMER_NAMES = {
    f"{PREFIX}: mark dead runs as crashed": f"{PREFIX}: notice dead runs",
    f"{PREFIX}: resume crashed runs": "clip-moderation: go on with crashed runs",
    f"{PREFIX}: restart lost runs": f"{PREFIX}: begin lost runs again",
}
"""Names that earlier versions of this program gave to these automations; `moderate deploy` renames them."""
TELL = (f"{PREFIX}: quarantined", f"{PREFIX}: warned", f"{PREFIX}: failed")

_FLOW_RUN = {"prefect.resource.id": "prefect.flow-run.*"}
_TAGGED = ResourceSpecification({"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"})


def set_up(notify: Sequence[str] = (), dead_after: timedelta = DEAD_AFTER) -> tuple[str, ...]:
    """Make the automations on Prefect's server, or bring them up to date. Returns their names.

    Args:
        notify: notification blocks to use, as `type/name`: `slack-webhook/moderation`. Without any, nobody is notified, and
            existing automations that notify somebody stay as they are.
        dead_after: silence after which a flow run counts as dead; several times the heartbeat, which is 30 s at least.

    Raises:
        SettingsError: there is no such block, or Prefect's server does not answer.
    """
    try:
        with get_client(sync_client=True) as client:
            blocks = [block_id(client, name) for name in notify]
            automations = [*_resuming(dead_after), *(_telling(blocks) if blocks else ())]
            for automation in automations:
                _put(client, automation)
    except UNREACHABLE as error:
        raise SettingsError(f"cannot set up Prefect's automations: {' '.join(str(error).split())[:300]}") from None
    return tuple(automation.name for automation in automations)


def _resuming(dead_after: timedelta) -> Iterator[AutomationCore]:
    dead, crashed, lost = RESUME
    yield AutomationCore(
        name=dead,
        description="A flow run without heartbeats was killed with its worker or its machine: mark it as crashed.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification(_FLOW_RUN),
            match_related=[_TAGGED],
            for_each={"prefect.resource.id"},
            within=dead_after,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {dead_after.total_seconds():g} s: its process, its worker or its machine is gone",
            )
        ],
    )
    attempts = [str(number) for number in range(1, MOST_ATTEMPTS)]
    yield AutomationCore(
        name=crashed,
        description="Schedule a crashed flow run again: it resumes after the last completed shard, under the same run id.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.Crashed"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({**_FLOW_RUN, "prefect.run-count": attempts}),
            match_related=[_TAGGED],
            for_each={"prefect.resource.id"},
            within=QUIET,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="it crashed, and resumes after its last completed shard",
            )
        ],
    )
    yield AutomationCore(
        name=lost,
        description="A flow run that a worker accepted but never started was lost with the worker: give it to another one.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.Pending"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification(_FLOW_RUN),
            match_related=[_TAGGED],
            for_each={"prefect.resource.id"},
            within=max(LOST_AFTER, dead_after),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message="its worker never started it: another worker runs it"
            )
        ],
    )


_RUN = """\
Run: {{ event.payload.run_id }}
Source: {{ event.payload.sources }}
Listed {{ event.payload.counts.listed }}, scored {{ event.payload.counts.scored }}, errors {{ event.payload.counts.errored }}, \
blocked {{ event.payload.counts.blocked }}, for review {{ event.payload.counts.review }}
{{ event.payload.reason }}
Report: {{ event.payload.report }}
Flow run: {{ flow_run|ui_url }}
"""

_FLOW_RUN_FAILED = """\
Flow run: {{ flow_run.name }} of {{ deployment.name }}
{{ flow_run.state.message }}
{{ flow_run|ui_url }}
"""


def _telling(blocks: Sequence[UUID]) -> Iterator[AutomationCore]:
    quarantined, warned, failed = TELL
    runs = ResourceSpecification({"prefect.resource.id": f"{PREFIX}.run.*"})
    for name, became, subject in (
        (quarantined, "quarantined", "Quarantined, nothing was published: {{ event.payload.checks|join(', ') }}"),
        (warned, "warned", "Published with a warning: {{ event.payload.checks|join(', ') }}"),
    ):
        yield AutomationCore(
            name=name,
            description="Notify people of failed quality checks: a flood, an error rate, a drift.",
            trigger=EventTrigger(
                posture=Posture.Reactive, expect={f"{PREFIX}.run.{became}"}, match=runs, match_related=[_TAGGED]
            ),
            actions=[SendNotification(block_document_id=block, subject=subject, body=_RUN) for block in blocks],
        )
    states = ("Failed", "TimedOut", "Crashed", "Late")
    yield AutomationCore(
        name=failed,
        description="Notify people of flow runs that failed, crashed, timed out, or that no worker accepts.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={f"prefect.flow-run.{state}" for state in states},
            match=ResourceSpecification(_FLOW_RUN),
            match_related=[_TAGGED],
        ),
        actions=[
            SendNotification(
                block_document_id=block, subject="{{ flow_run.state.name }}: {{ flow_run.name }}", body=_FLOW_RUN_FAILED
            )
            for block in blocks
        ],
    )


def block_id(client: SyncPrefectClient, named: str) -> UUID:
    """A notification block by its type and name. Raises `SettingsError` if there is none."""
    slug, _, name = named.partition("/")
    if not slug or not name:
        raise SettingsError(f"notify: {named!r} is not a block: give its type and its name, such as slack-webhook/moderation")
    try:
        return client.read_block_document_by_name(name=name, block_type_slug=slug).id
    except ObjectNotFound:
        raise SettingsError(
            f"notify: Prefect has no block {named!r}: create it on Prefect's page Blocks; `prefect block ls` lists all blocks"
        ) from None


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    names = filter(None, (automation.name, _FORMER_NAMES.get(automation.name)))
    present = [found for name in names for found in client.read_automations_by_name(name)]
    if not present:
        client.create_automation(automation)
        return
    client.update_automation(present[0].id, automation)
    for double in present[1:]:
        client.delete_automation(double.id)
