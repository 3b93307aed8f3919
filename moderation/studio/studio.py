"""What the pages work with: the results, the policies, and what is held of them in memory."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from moderation.errors import OutputError, StorageError
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.schema import Policy
from moderation.results.archive import Archive, open_archive
from moderation.results.manifest import Manifest
from moderation.results.runs import Run, all_runs
from moderation.results.stored_policy import stored_policy
from moderation.storage import Store, scheme_of
from moderation.studio.access import Keys
from moderation.studio.audit import AuditLog
from moderation.studio.background import Background
from moderation.studio.catalogue import Catalogue
from moderation.studio.model import Model
from moderation.studio.pictures import Pictures
from moderation.studio.policy_document import PolicyDocument

RUNS_SECONDS = 15.0
"""For how long the list of runs is taken to be the same: all manifests are read for it."""
_POLICIES_KEPT = 16


class Studio:
    """One start of the studio. Threads use it at the same time."""

    def __init__(self, results: str, policies: Sequence[Path], keys: Keys, audit: AuditLog) -> None:
        """Raises `OutputError` if the results cannot be read."""
        try:
            self.output = Store(results)
        except StorageError as error:
            raise OutputError(f"cannot read the results at {results!r}: {error.detail}") from None
        self.results = results
        self.keys = keys
        self.audit = audit
        self.documents = tuple(PolicyDocument(path) for path in policies)
        self.pictures = Pictures(local_files=scheme_of(self.output.uri) == "file")
        self.model = Model(results)
        self._lock = threading.Lock()
        self._reading_runs = threading.Lock()
        self._runs: tuple[float, list[Run]] | None = None
        self._catalogue: tuple[frozenset[str], Background[Catalogue]] | None = None
        self._compiled: dict[str, CompiledPolicy] = {}

    def close(self) -> None:
        """End what runs beside the server."""
        self.pictures.close()
        self.model.close()
        if self._catalogue is not None and self._catalogue[1].done and not self._catalogue[1].failed:
            self._catalogue[1].result().close()

    def runs(self, *, fresh: bool = False) -> list[Run]:
        """Every run, the newest first. Raises `OutputError`."""
        with self._reading_runs:
            if self._runs is None or fresh or time.monotonic() - self._runs[0] > RUNS_SECONDS:
                self._runs = time.monotonic(), all_runs(self.output)
            return self._runs[1]

    def run(self, run_id: str) -> Run | None:
        """One run by its name, as a page names it; None if there is none."""
        return next((run for run in self.runs() if run.run_id == run_id), None)

    def manifests(self) -> list[Manifest]:
        """Of published runs, the newest first."""
        return [run.manifest for run in self.runs() if run.state == "published" and run.manifest is not None]

    def catalogue(self) -> Background[Catalogue]:
        """The images of the runs that are published now. It is read in the background, and again when there are other runs."""
        published = frozenset(manifest.run_id for manifest in self.manifests())
        with self._lock:
            if self._catalogue is None or self._catalogue[0] != published or self._catalogue[1].failed:
                # The earlier one is not closed: pages may be reading it. It goes with them.
                self._catalogue = published, Background("catalogue", lambda _: Catalogue(self.results))
            return self._catalogue[1]

    def archive(self, fingerprint: str) -> Archive:
        """The stored embeddings of a model. Raises `SettingsError`, `OutputError`."""
        return open_archive(self.output, fingerprint=fingerprint)

    def decided_by(self, run_id: str) -> tuple[Policy, CompiledPolicy] | None:
        """The policy of a published run, ready to score; None if there is no such run.

        Raises:
            PolicyError, OutputError, ModelError, SettingsError: it cannot be put together any more.
        """
        run = self.run(run_id)
        if run is None or run.manifest is None or run.state != "published":
            return None
        manifest = run.manifest
        key = f"{manifest.policy_hash} {manifest.model_fingerprint}"
        compiled = self._compiled.get(key)
        if compiled is None:
            policy = stored_policy(self.output, manifest)
            compiled = self.model.compiled(policy, self.archive(manifest.model_fingerprint))
            with self._lock:
                self._compiled[key] = compiled
                while len(self._compiled) > _POLICIES_KEPT:
                    self._compiled.pop(next(iter(self._compiled)))
        return compiled.policy, compiled
