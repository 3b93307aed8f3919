"""The keys of prefect.yaml and the types of their values; values that Prefect fills in when it deploys."""

from typing import Any

from prefect.utilities.templating import find_placeholders
from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ScheduleShape(Shape):
    """One of `schedules`. What Prefect's classes read in several ways is theirs to check."""

    cron: str | None = None
    interval: Any = None
    rrule: str | None = None
    timezone: str | None = None
    anchor_date: str | None = None
    day_or: Any = None
    active: Any = None
    parameters: dict[str, Any] | None = None
    slug: str | None = None
    replaces: str | None = None


class WorkPoolShape(Shape):
    """`work_pool`."""

    name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Any] | None = None


class DeploymentShape(Shape):
    """One of `deployments`. Prefect ignores other keys without a word."""

    name: str
    entrypoint: str
    version: str | None = None
    version_type: str | None = None
    tags: list[str] | None = None
    description: str | None = None
    schedule: ScheduleShape | None = None
    schedules: list[ScheduleShape] | None = None
    paused: bool | None = None
    concurrency_limit: Any = None
    flow_name: str | None = None
    parameters: dict[str, Any] | None = None
    enforce_parameter_schema: bool | None = None
    build: list[dict[str, Any]] | dict[str, Any] | None = None
    push: list[dict[str, Any]] | dict[str, Any] | None = None
    pull: list[dict[str, Any]] | dict[str, Any] | None = None
    work_pool: WorkPoolShape | None = None
    triggers: list[dict[str, Any]] | None = None
    sla: list[dict[str, Any]] | None = None


SHAPES: dict[str, type[Shape]] = {"schedule": ScheduleShape, "schedules": ScheduleShape, "work_pool": WorkPoolShape}
"""What lies below a key of a deployment."""


def is_template(value: object) -> bool:
    """Whether Prefect fills in this value when it deploys. Other text in braces it keeps as it stands."""
    return isinstance(value, str) and bool(find_placeholders(value))


def without_templates(value: Any) -> Any:
    """Values less those that Prefect fills in; what a deployment must have stays."""
    if isinstance(value, dict):
        return {k: without_templates(v) for k, v in value.items() if k in ("name", "entrypoint") or not is_template(v)}
    if isinstance(value, list):
        return [without_templates(item) for item in value if not is_template(item)]
    return value
