"""What a run is given, checked before anything is started: settings, policy, source, output, run id."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from moderation.errors import ErrorCode, OutputError, PolicyError, SettingsError, SourceError, StorageError
from moderation.policy.loading import read_policy
from moderation.policy.schema import Policy
from moderation.results.paths import RunPaths
from moderation.settings import RunSettings
from moderation.storage import Store


@dataclass(frozen=True)
class Inputs:
    """Everything a run works from."""

    settings: RunSettings
    policy: Policy
    policy_files: Mapping[str, str]
    """name and text of the policy file and of those it includes, its own first"""
    source: Store
    output: Store


def check_inputs(settings: RunSettings) -> Inputs:
    """Read the policy and try source and output. Leaves nothing behind.

    Raises:
        PolicyError, SourceError, OutputError, SettingsError: what is wrong, in one line.
    """
    read = read_policy(settings.policy)
    if read.policy is None:
        raise PolicyError("\n".join(str(finding) for finding in read.findings))
    source = _source(settings.source)
    output = _output(settings.output)
    if f"{output.uri}/".startswith(f"{source.uri}/"):
        raise SettingsError(f"the output {output.uri} lies inside the source {source.uri}: its files would be moderated")
    return Inputs(settings, read.policy, read.files, source, output)


def claim_run(inputs: Inputs, fingerprint: str) -> tuple[RunPaths, datetime]:
    """Name the run and note what it is, or take up the one that the settings name. Returns its paths and start.

    Raises:
        SettingsError: the run is published already, or was begun with another policy, model or source.
    """
    settings, output = inputs.settings, inputs.output
    now = datetime.now(UTC)
    run_id = settings.run_id or f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    paths = RunPaths(run_id, f"{now:%Y-%m-%d}", fingerprint)
    identity = {"source": inputs.source.uri, "policy_hash": inputs.policy.hash, "model_fingerprint": fingerprint}
    try:
        if settings.run_id is not None:
            if output.exists(paths.manifest):
                raise SettingsError(f"the run {run_id} is published already: {output.uri_of(paths.manifest)}")
            begun = _begun(output, paths)
            if begun is not None:
                started_at = datetime.fromisoformat(begun.pop("started_at"))
                changed = [key for key, value in identity.items() if begun.get(key) != value]
                if changed:
                    raise SettingsError(
                        f"the run {run_id} was begun with another {' and '.join(changed)}: "
                        "give the same again, or leave --run-id out to begin a new run"
                    )
                return RunPaths(run_id, f"{started_at:%Y-%m-%d}", fingerprint), started_at
        note = json.dumps({**identity, "started_at": now.isoformat()})
        output.put(f"{paths.staging}run.json", note.encode(), create_only=True)
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}") from None
    return paths, now


def _source(location: str) -> Store:
    if "://" not in location and Path(location).expanduser().is_file():
        raise SourceError(f"the source {location!r} is a file: give the folder that holds the images")
    try:
        store = Store(location)
        store.check_readable()
    except StorageError as error:
        raise SourceError(f"cannot list the source {location!r}: {error.detail}") from None
    return store


def _output(location: str) -> Store:
    try:
        store = Store(location)
        store.check_writable()
    except StorageError as error:
        raise OutputError(f"cannot write to the output {location!r}: {error.detail}") from None
    return store


def _begun(output: Store, paths: RunPaths) -> dict[str, str] | None:
    try:
        begun: dict[str, str] = json.loads(output.get(f"{paths.staging}run.json"))
    except StorageError as error:
        if error.code is ErrorCode.NOT_FOUND:
            return None
        raise
    return begun
