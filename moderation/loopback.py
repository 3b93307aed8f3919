"""Loopback never goes through a proxy: what that takes in the environment of this process and of those that it starts."""

import os
from collections.abc import Mapping

HOSTS = ("localhost", "127.0.0.1", "::1")
NAMES = ("no_proxy", "NO_PROXY")
"""Where libraries look: some at one, some at the other, some at the first that is set."""


def direct_loopback(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables to set so that loopback is reached directly; every other host keeps the user's proxy.

    gRPC prefers `no_grpc_proxy`, so the hosts go there too where it is set.
    """
    given = [environment.get(name, "") for name in NAMES]
    hosts = list(dict.fromkeys(_hosts(",".join(given))))
    changes = {name: _joined(hosts) for name in NAMES}
    if "no_grpc_proxy" in environment:
        changes["no_grpc_proxy"] = _joined(_hosts(environment["no_grpc_proxy"]))
    return changes


def _hosts(value: str) -> list[str]:
    return [host for host in map(str.strip, value.split(",")) if host]


def _joined(hosts: list[str]) -> str:
    """`*` stands for all hosts, and means so only where it stands alone."""
    return "*" if "*" in hosts else ",".join([*hosts, *(host for host in HOSTS if host not in hosts)])
