"""Loopback never goes through a proxy: what that takes in the environment of this process and of those that it starts."""

import os
from collections.abc import Mapping, Sequence

HOSTS = ("localhost", "127.0.0.1", "::1")
NAMES = ("no_proxy", "NO_PROXY")
"""Where libraries look: some at one, some at the other, some at the first that is set."""


def direct_loopback(environment: Mapping[str, str] = os.environ, also: Sequence[str] = ()) -> dict[str, str]:
    """The variables to set so that loopback is reached directly, `also` other hosts; all the rest keep the user's proxy.

    gRPC prefers `no_grpc_proxy`, so the hosts go there too where it is set.
    """
    given = _hosts(",".join(environment.get(name, "") for name in NAMES))
    changes = {name: _joined([*given, *HOSTS, *also]) for name in NAMES}
    if "no_grpc_proxy" in environment:
        changes["no_grpc_proxy"] = _joined([*_hosts(environment["no_grpc_proxy"]), *HOSTS, *also])
    return changes


def _hosts(value: str) -> list[str]:
    return [host for host in map(str.strip, value.split(",")) if host]


def _joined(hosts: list[str]) -> str:
    """`*` stands for all hosts, and means so only where it stands alone."""
    return "*" if "*" in hosts else ",".join(dict.fromkeys(hosts))
