"""Paths under the output URI. Readers use the upper four; names that start with `_` are internal."""

from dataclasses import dataclass

from moderation.results.schemas import Table

NO_SHARD = "none"
"""Stands for the name of a shard in a step of the plan that has none."""


@dataclass(frozen=True)
class RunPaths:
    """Keys of one run, relative to the output."""

    run_id: str
    date: str
    """the day the run began, UTC, e.g. 2026-11-21"""
    fingerprint: str

    @property
    def manifest(self) -> str:
        """The manifest: written last, never overwritten."""
        return f"runs/{self.run_id}.json"

    @property
    def report(self) -> str:
        """The report's page."""
        return f"reports/{self.run_id}/report.html"

    @property
    def data_docs(self) -> str:
        """Folder of the quality checks' own pages."""
        return f"reports/{self.run_id}/data-docs/"

    @property
    def staging(self) -> str:
        """Folder of what is not yet published."""
        return f"_staging/{self.run_id}/"

    @property
    def quarantine(self) -> str:
        """Folder of a run whose checks failed."""
        return f"_quarantine/{self.run_id}/"

    @property
    def quarantined(self) -> str:
        """What would have been the manifest of a run whose checks failed."""
        return f"{self.quarantine}{self.manifest}"

    def plan(self, number: int, shard: str) -> str:
        """The stored plan of one shard."""
        return f"{self.staging}plan/{number:06d}-{shard}.parquet"

    def plan_redecided(self, number: int) -> str:
        """Objects listed up to a step of the plan that are re-decided from stored embeddings."""
        return f"{self.staging}anew/{number:06d}.parquet"

    def receipt(self, shard: str) -> str:
        """The proof that a shard's files are staged whole."""
        return f"{self.staging}receipts/{shard}.json"

    def published(self, table: Table, shard: str) -> str:
        """Where readers find a shard's file."""
        model = f"model={self.fingerprint}/" if table == "embeddings" else ""
        return f"{table}/{model}date={self.date}/run={self.run_id}/{shard}.parquet"

    def staged(self, attempt: str, published: str) -> str:
        """Where the same file waits."""
        return f"{self.staging}{attempt}/{published}"
