"""Which ports processes listen on, and what a stranger gets who asks there."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import httpx
from support import descendants

GRPC = {"content-type": "application/grpc", "te": "trailers"}


UNAUTHENTICATED, UNIMPLEMENTED = "16", "12"


CALLS = (
    "NodeInfoGcsService/GetClusterId",
    "NodeManagerService/RequestWorkerLease",
    "ObjectManagerService/Pull",
    "CoreWorkerService/PushTask",
    "ReporterService/GetTraceback",
)
"""One of each service of Ray's: a port knows its own and calls the others unimplemented."""


@dataclass(frozen=True)
class Listener:
    """A port on which a process waits for others."""

    host: str
    port: int
    process: str

    @property
    def on_loopback(self) -> bool:
        address = ipaddress.ip_address(self.host)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def listeners(pid: int) -> set[Listener]:
    """The TCP ports on which a process and those below it listen."""
    names = {pid: "the run", **descendants(pid)}
    owners: dict[str, str] = {}
    for process, name in names.items():
        try:
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                owners[str(descriptor.readlink())] = name
        except OSError:
            continue  # it has ended
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = line.split()[1], line.split()[3], line.split()[9]
            if state == "0A" and f"socket:[{inode}]" in owners:
                host, _, port = local.partition(":")
                words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
                address = str(ipaddress.ip_address(b"".join(words)))
                found.add(Listener(address, int(port, 16), owners[f"socket:[{inode}]"]))
    return found


def answer(listener: Listener) -> str:
    """What a stranger on this machine is told: `refused` where a token is missing, else what it got."""
    host = "127.0.0.1" if listener.on_loopback or listener.host in ("0.0.0.0", "::") else listener.host  # noqa: S104
    url = f"http://[{host}]:{listener.port}" if ":" in host else f"http://{host}:{listener.port}"
    said: set[str] = set()
    try:
        with httpx.Client(http1=False, http2=True, timeout=5, trust_env=False) as client:
            for call in CALLS:
                headers = client.post(f"{url}/ray.rpc.{call}", headers=GRPC, content=bytes(5)).headers
                said.add(headers.get("grpc-status", "an answer"))
        return "refused" if said <= {UNAUTHENTICATED, UNIMPLEMENTED} and UNAUTHENTICATED in said else f"gRPC {sorted(said)}"
    except httpx.HTTPError:
        pass
    with httpx.Client(timeout=5, trust_env=False) as client:
        try:
            page = client.get(f"{url}/metrics")
        except httpx.ConnectError:
            return "nothing: closed again"
        except httpx.HTTPError as error:
            return f"nothing: {error}"
        if page.status_code in (401, 403):
            return "refused"
        return "metrics" if page.text.startswith("# HELP") else f"HTTP {page.status_code}"
