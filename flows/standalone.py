"""Flows that may be called in Python like functions: without PREFECT_API_URL, on a temporary server of their own."""

from typing import Any, ParamSpec, TypeVar

from prefect import Flow

from flows.prefect_api import prefect_api

P = ParamSpec("P")
R = TypeVar("R")


class _StandaloneFlow(Flow[P, R]):
    """A flow that ensures there is a Prefect API while it runs."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with prefect_api():
            return super().__call__(*arguments, **named)

    def with_options(self, **options: Any) -> Flow[P, R]:
        return standalone(super().with_options(**options))


def standalone(flow: Flow[P, R]) -> Flow[P, R]:
    """The same flow, which needs no server. Prefect's decorator makes no other class than its own."""
    flow.__class__ = _StandaloneFlow
    return flow
