"""From results and a file of queues to queues that are open: connecting, severities, known answers."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from moderation.errors import SettingsError
from moderation.policy.consistency import known
from moderation.query.connection import connect, sql_errors
from moderation.queues.golden import Golden, GoldenAnswer, read_golden
from moderation.queues.open_queue import OpenQueue
from moderation.queues.queue_file import golden_path, load_queues
from moderation.queues.queue_schema import IN_REVIEW, Queue, QueueFile
from moderation.queues.queue_sql import condition
from moderation.queues.severities import severities
from moderation.results.manifest import published_manifests
from moderation.storage import Store


@dataclass(frozen=True)
class Queues:
    """The queues of a file over some results, as these were when it was made."""

    connection: duckdb.DuckDBPyConnection
    file: QueueFile
    path: Path | None
    """of the file; None for the default queues"""

    def open(self, name: str) -> OpenQueue:
        """The queue of that name. Raises `SettingsError` if there is none, or as `OpenQueue`."""
        queue = self.queue(name)
        return OpenQueue(self.connection, queue, self.file, self.golden(queue).answers)

    def left_out(self) -> int:
        """Images in review that no queue asks about, so that nobody will see them."""
        wheres = [one.where for one in self.file.queues]
        if IN_REVIEW in wheres:
            return 0
        where = f"{IN_REVIEW} AND NOT ({' OR '.join(map(condition, wheres))})"
        with OpenQueue(self.connection, Queue.model_construct(name="", where=where), self.file) as rest:
            return rest.count()

    def queue(self, name: str) -> Queue:
        """What the file says about it. Raises `SettingsError` if there is none of that name."""
        found = self.file.queue(name)
        if found is None:
            where = str(self.path) if self.path else "without a file of queues"
            raise SettingsError(f"no queue {name!r} ({where}): {known('queues', name, [one.name for one in self.file.queues])}")
        return found

    def golden(self, queue: Queue) -> Golden:
        """The known answers of a queue whose images have bytes; `mistakes` names those that are not in the results."""
        if queue.golden is None:
            return Golden()
        read = read_golden(golden_path(self.path, queue))
        return self._with_bytes(read)

    def _with_bytes(self, read: Golden) -> Golden:
        uris = [one.uri for one in read.answers if one.sha256 is None]
        if not uris:
            return read
        with sql_errors():
            rows = self.connection.execute(
                "SELECT uri, arg_max(sha256, (scored_at, run_id)) FROM decisions "
                "WHERE uri IN (SELECT unnest($uris)) AND sha256 IS NOT NULL GROUP BY uri",
                {"uris": uris},
            ).fetchall()
        by_uri: dict[str, str] = dict(rows)
        found = [replace(one, sha256=one.sha256 or by_uri.get(one.uri)) for one in read.answers]
        lost = tuple(f"{one.uri}: no run has read this image" for one in found if one.sha256 is None)
        return Golden(tuple(one for one in found if one.sha256 is not None), (*read.mistakes, *lost))


@contextlib.contextmanager
def opened_queues(results: str, path: Path | None = None) -> Iterator[Queues]:
    """The queues of a file, or the default ones, over the results of runs, and of reviews, that there are now.

    Raises:
        SettingsError: the file has mistakes, no run is published, or the results cannot be read.
        OutputError: a manifest there is broken.
    """
    file = load_queues(path)
    with connect(results, file.validity) as connection:
        connection.register("_severities", severities(published_manifests(Store(results))))
        yield Queues(connection, file, path)


def answers_known(queues: Queues) -> tuple[GoldenAnswer, ...]:
    """The known answers of all queues, each once."""
    every = (one for queue in queues.file.queues for one in queues.golden(queue).answers)
    return tuple({(one.sha256, one.rule): one for one in every}.values())
