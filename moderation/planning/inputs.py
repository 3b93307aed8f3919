"""The inputs of a run, checked before anything starts: settings, policy, source, output, run id."""

import contextlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moderation.errors import ErrorCode, OutputError, PolicyError, QuarantinedError, SettingsError, StorageError
from moderation.policy.schema import Policy
from moderation.policy_files.loading import read_policy
from moderation.quality.limits_file import read_limits
from moderation.quality.quality_limits import QualityLimits
from moderation.results.paths import RunPaths
from moderation.settings import RunSettings
from moderation.sources import ObjectReader, Source, open_sources, reader_of
from moderation.storage import Store


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run."""

    settings: RunSettings
    policy: Policy
    policy_files: Mapping[str, str]
    """name and text of the policy file and of those it includes, its own first"""
    sources: tuple[Source, ...]
    reader: ObjectReader
    quality: QualityLimits
    output: Store

    @property
    def source_uris(self) -> tuple[str, ...]:
        """Where the objects come from, as the run's manifest says it."""
        return tuple(source.uri for source in self.sources) or (f"{self.output.uri}/embeddings",)


def check_inputs(settings: RunSettings) -> Inputs:
    """Read the policy and the quality limits, and check sources and output. Leaves no files behind.

    Raises:
        PolicyError, SourceError, OutputError, SettingsError: what is wrong, in one line.
    """
    read = read_policy(settings.policy)
    if read.policy is None:
        raise PolicyError("\n".join(str(finding) for finding in read.findings))
    quality = read_limits(settings.quality)
    if quality.limits is None:
        raise SettingsError("\n".join(str(finding) for finding in quality.findings))
    sources = open_sources(settings.sources, settings.fetch_threads)
    output = _output(settings.output)
    for source in sources:
        if f"{output.uri}/".startswith(f"{source.uri}/"):
            raise SettingsError(f"the output {output.uri} is inside the source {source.uri}: its files would be moderated too")
    reader = reader_of(sources, settings.fetch_threads)
    if settings.from_embeddings:  # for the report's pictures
        reader = ObjectReader(manifests=True, local_files=True)
    return Inputs(settings, read.policy, read.files, sources, reader, quality.limits, output)


def claim_run(inputs: Inputs, fingerprint: str) -> tuple[RunPaths, datetime]:
    """Create and describe the run, or resume the one that the settings name. Returns its paths and start.

    Raises:
        SettingsError: the run is already published, or was started with another policy, model, source or selection.
        QuarantinedError: the run failed its checks.
    """
    settings, output = inputs.settings, inputs.output
    now = datetime.now(UTC)
    run_id = settings.run_id or f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    paths = RunPaths(run_id, f"{now:%Y-%m-%d}", fingerprint)
    identity = {
        "source": [f"{source.uri} {source.version}".strip() for source in inputs.sources] or list(inputs.source_uris),
        "selection": settings.model_dump(mode="json", include={"include", "exclude", "modified_since"}),
        "policy": inputs.policy.hash,
        "model": fingerprint,
    }
    try:
        if settings.run_id is not None and output.exists(paths.manifest):
            raise SettingsError(f"the run {run_id} is already published: {output.uri_of(paths.manifest)}")
        if settings.run_id is not None and output.exists(paths.quarantined):
            raise QuarantinedError(
                f"the run {run_id} failed its quality checks and is in {output.uri_of(paths.quarantined)}: "
                "leave out --run-id to start a new run"
            )
        begun = _begun(output, paths)
        if begun is None:
            with contextlib.suppress(FileExistsError):  # another attempt started it at the same moment
                note = {**identity, "started_at": now.isoformat()}
                output.put(f"{paths.staging}run.json", json.dumps(note).encode(), create_only=True)
                return paths, now
            begun = _begun(output, paths) or {}
    except StorageError as error:
        raise OutputError(f"cannot write to {output.uri}: {error.detail}") from None
    changed = [key for key, value in identity.items() if begun.get(key) != value]
    if changed:
        raise SettingsError(
            f"the run {run_id} was started with another {' and '.join(changed)}: "
            "use the same again, or leave out --run-id to start a new run"
        )
    started_at = datetime.fromisoformat(begun["started_at"])
    return RunPaths(run_id, f"{started_at:%Y-%m-%d}", fingerprint), started_at


def _output(location: str) -> Store:
    try:
        store = Store(location)
        store.check_writable()
    except StorageError as error:
        raise OutputError(f"cannot write to the output {location!r}: {error.detail}") from None
    return store


def _begun(output: Store, paths: RunPaths) -> dict[str, Any] | None:
    try:
        begun: dict[str, Any] = json.loads(output.get(f"{paths.staging}run.json"))
    except StorageError as error:
        if error.code is ErrorCode.NOT_FOUND:
            return None
        raise
    return begun
