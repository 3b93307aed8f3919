"""What a Ray cluster is made of, and whether its nodes fit: their libraries, and the folders that a run names."""

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.client import ray as client
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from moderation.cluster.joining import direct, join, knock
from moderation.common.environment import environment
from moderation.errors import RunError, SettingsError
from moderation.storage import Store, local_path, scheme_of

DECIDING = ("open_clip_torch", "pillow", "pillow-heif", "pylibjxl", "resvg-py", "torch", "torchvision")
"""Libraries that pixels go through: other versions may make other embeddings."""
OTHERS = (
    "boto3",
    "great-expectations",
    "jinja2",
    "numpy",
    "obstore",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "tenacity",
)
"""Libraries beside them that nodes cannot do without."""
ANSWER_S = 120.0
"""Seconds for a node to start a process and answer."""
SAMPLE = 3
"""Number of files of a source that identify a node's folder among others of the same name."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeFacts:
    """A machine of a Ray cluster."""

    node_id: str
    host: str
    cpus: float
    gpus: float
    python: str
    versions: Mapping[str, str | None]
    """of the libraries that a node needs; None where one is not installed"""
    asks_for_token: bool
    """whether its processes refuse whoever has no token"""


@dataclass(frozen=True)
class ClusterFacts:
    """The nodes of a Ray cluster that are alive."""

    address: str
    nodes: tuple[NodeFacts, ...]

    @property
    def cpus(self) -> float:
        """CPU cores of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)


@dataclass(frozen=True)
class Mismatch:
    """A library of which a node has another version than it should."""

    text: str
    fatal: bool
    """whether a run is refused for it"""


def describe_cluster(address: str) -> ClusterFacts:
    """Join the Ray cluster at `address`, ask each node what it is, and leave it. Nothing of this program is sent there.

    Raises:
        SettingsError: the cluster cannot be joined, or a node does not answer.
    """
    if ray.is_initialized():
        knock(address)
        return facts_of(address)
    with environment(direct()):
        join(address, with_code=False)
        try:
            return facts_of(address)
        finally:
            ray.shutdown()


def facts_of(address: str) -> ClusterFacts:
    """The facts of the cluster that this process has joined; `address` is what it is called in messages."""
    nodes = _alive()
    answers = _ask(nodes, _inspector(), (*DECIDING, *OTHERS))
    return ClusterFacts(address, tuple(_node_facts(node, answers[node["NodeID"]]) for node in nodes))


def check_versions(address: str) -> None:
    """Refuse a cluster whose nodes would process images differently from this process; warn of other differences.

    Raises:
        SettingsError: all mismatches that matter, in one line.
    """
    found = mismatches(facts_of(address))
    for mismatch in found:
        if not mismatch.fatal:
            _log.warning("Ray cluster at %s: %s", address, mismatch.text)
    fatal = [mismatch.text for mismatch in found if mismatch.fatal]
    if fatal:
        raise SettingsError(
            f"the Ray cluster at {address} does not match: {'; '.join(fatal)}: install the same versions everywhere"
        )


def mismatches(facts: ClusterFacts) -> tuple[Mismatch, ...]:
    """Where nodes differ from this process, whose versions stand in the manifest.

    CPU and CUDA builds of one version count as the same here, but not among nodes with GPUs.
    """
    found = []
    for name in (*DECIDING, *OTHERS):
        here = _version(name)
        for version, nodes in _grouped(facts.nodes, name).items():
            where = _named(nodes)
            if version is here is None:  # one that can be done without
                continue
            if version is None:
                found.append(Mismatch(f"{where} has no {name} (here: {here})", fatal=True))
            elif _public(version) != _public(here or ""):
                found.append(Mismatch(f"{where} has {name} {version} (here: {here})", fatal=name in DECIDING))
        builds = _grouped([node for node in facts.nodes if node.gpus], name)
        if name in DECIDING and len({_public(version or "") for version in builds}) < len(builds):
            message = " and ".join(f"{version} on {_named(nodes)}" for version, nodes in builds.items())
            found.append(Mismatch(f"nodes with GPUs have different builds of {name}: {message}", fatal=True))
    return tuple(found)


def check_folders(sources: Sequence[str], output: str) -> None:
    """See to it that every node sees the local folders and files that a run names; objects in storage are seen by all.

    A folder counts as seen where the same files lie in it, of the same size and time; the output, where a file that is
    written here turns up. So a shared file system passes, and a folder of the same name does not.

    Raises:
        SettingsError: some node does not see one.
    """
    if not client.is_connected() and [node["NodeID"] for node in _alive()] == [ray.get_runtime_context().get_node_id()]:
        return  # this machine is all of it
    local = [source for source in sources if scheme_of(source) == "file"]
    marks = {source: _marks(Path(local_path(source))) for source in local}
    store = Store(output) if scheme_of(output) == "file" else None
    key = f"_staging/probe-{secrets.token_hex(8)}"
    if store is not None:
        store.put(key, b"")
        marks[output] = [(f"{local_path(store.uri)}/{key}", 0, None)]
    try:
        nodes = _alive() if marks else []
        answers = _ask(nodes, _looker(), marks)
    finally:
        if store is not None:
            store.delete(key)
    for location in marks:
        blind = [node for node in nodes if location not in answers[node["NodeID"]]]
        if blind:
            what = "output" if location == output else "source"
            raise SettingsError(
                f"the {what} {location} is not what node {blind[0]['NodeManagerAddress']} of the Ray cluster has there"
                f"{f', nor {len(blind) - 1} more' if blind[1:] else ''}: use object storage (s3:// ...), "
                "or a file system that all nodes share, mounted at the same path"
            )


def _marks(path: Path) -> list[tuple[str, int, int | None]]:
    """Path, size and time of a few files, by which to know a folder again, or of the one file that this is."""
    found: list[tuple[str, int, int | None]] = []
    files = [path] if path.is_file() else (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    for file in files:
        with contextlib.suppress(OSError):
            status = file.stat()
            found.append((str(file), status.st_size, int(status.st_mtime)))
        if len(found) == SAMPLE:
            break
    return found


def _looker() -> Callable[..., Any]:
    def look(marks: dict[str, list[tuple[str, int, int | None]]]) -> list[str]:
        """The folders whose marks are all here."""
        import os  # noqa: PLC0415

        def is_here(path: str, size: int, modified: int | None) -> bool:
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:
                return False
            return status.st_size == size and modified in (None, int(status.st_mtime))

        return [folder for folder, files in marks.items() if all(is_here(*file) for file in files)]

    return look


def _inspector() -> Callable[..., Any]:
    def inspect(names: tuple[str, ...]) -> tuple[str, dict[str, str | None], bool]:
        """Python's version, those of libraries, and whether a token is asked for."""
        import os  # noqa: PLC0415
        import platform  # noqa: PLC0415
        from importlib import metadata  # noqa: PLC0415

        def version(name: str) -> str | None:
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                return None

        return platform.python_version(), {name: version(name) for name in names}, os.environ.get("RAY_AUTH_MODE") == "token"

    return inspect


def _ask(nodes: Sequence[Mapping[str, Any]], function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What a function says on each node, by the node's id.

    The function must be local to another one and import what it needs: it is sent whole then, and a node needs not have
    this package to run it.
    """
    asked = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
        asked[task.remote(*arguments)] = node
    _, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    if silent:
        raise RunError(f"{_hosts([asked[one] for one in silent])} of the Ray cluster gave no answer within {ANSWER_S:g} s")
    try:
        return {node["NodeID"]: ray.get(reference) for reference, node in asked.items()}
    except exceptions.RuntimeEnvSetupError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"this program's code could not be sent to a node of the Ray cluster: {reason}") from None
    except exceptions.RayTaskError:
        raise  # a mistake of ours
    except exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"a node of the Ray cluster was lost while its versions were checked: {reason}") from None


def _alive() -> list[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _node_facts(node: Mapping[str, Any], answer: tuple[str, dict[str, str | None], bool]) -> NodeFacts:
    resources = node["Resources"]
    python, versions, asks = answer
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    return NodeFacts(node["NodeID"], node["NodeManagerAddress"], cpus, gpus, python, versions, asks)


def _grouped(nodes: Iterable[NodeFacts], name: str) -> dict[str | None, list[NodeFacts]]:
    groups: dict[str | None, list[NodeFacts]] = {}
    for node in nodes:
        groups.setdefault(node.versions[name], []).append(node)
    return groups


def _named(nodes: Sequence[NodeFacts]) -> str:
    more = f" (and {len(nodes) - 1} more)" if nodes[1:] else ""
    return f"node {nodes[0].host}{more}"


def _hosts(nodes: Sequence[Mapping[str, Any]]) -> str:
    return "node " + ", ".join(str(node["NodeManagerAddress"]) for node in nodes[:3])


def _public(version: str) -> str:
    return version.partition("+")[0]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
