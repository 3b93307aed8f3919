"""A queue as it is now: its images gathered once, then read page by page."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import duckdb

from moderation.query.connection import sql_errors
from moderation.query.review_sql import SUGGESTION
from moderation.queues.golden import GoldenAnswer
from moderation.queues.lots import lot
from moderation.queues.queue_schema import Queue, QueueFile
from moderation.queues.queue_sql import OPEN, candidates_sql, items_sql, newest_sql, open_sql
from moderation.reviews.review import Selection

PAGE = 100
"""Items of a page, unless asked for otherwise."""

_numbers = itertools.count()

_COLUMNS = """
    position, why, weight, rules, uri, etag, sha256, pdq, frame, run_id, policy, policy_version, policy_hash, error_code,
    action, top_rule, top_category, top_score, top_threshold, scored_at, restricted, last_note, image
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedImage:
    """An image for a person to review. What the machine said of a golden item is None."""

    position: int
    """place in the queue, from 1; of a golden item, that of the item behind it"""
    why: Selection
    """why it is there: its decision, an audit, a second review, or a known answer. Reviewers should not see it"""
    weight: float | None = None
    """of an audited image: how many it stands for"""
    rules: tuple[str, ...]
    """rules to judge; empty: the whole image"""
    uri: str
    etag: str = ""
    sha256: str | None
    pdq: str | None = None
    frame: int | None = None
    run_id: str | None = None
    policy: str | None = None
    policy_version: str | None = None
    policy_hash: str | None = None
    error_code: str | None = None
    """why it could not be scored; None if it was"""
    action: str | None = None
    """what the machine decided, and in the next four why"""
    top_rule: str | None = None
    top_category: str | None = None
    top_score: float | None = None
    top_threshold: float | None = None
    scored_at: datetime | None = None
    restricted: bool = False
    """whether nothing of it may be shown: it is on a restricted hash list"""
    last_note: str | None = None
    """of the person who sent it on, or whose review is the first of two"""
    suggested_action: str | None = None
    """what people decided about a picture that looks the same"""
    suggested_distance: int | None = None
    """bits in which its perceptual hash (PDQ) differs"""
    image: str
    """what a review belongs to: `sha256`, or URI and ETag where that is unknown"""


class OpenQueue:
    """The images that await a person in a queue. Use it as a context manager, and open it again to see later runs and reviews.

    Gathering them takes some 20 seconds of two processors for ten million decisions; a page then takes milliseconds.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, queue: Queue, file: QueueFile, golden: Sequence[GoldenAnswer] = ()
    ) -> None:
        """Gather them. `moderation.queues.opening` calls it.

        Args:
            connection: with the views of `moderation.query` and a table `_severities`.
            queue: one of `file`.
            file: the other queues, and the seed of lots.
            golden: answers whose SHA-256 is known.

        Raises:
            SettingsError: the condition cannot be computed for some decision, or results cannot be read.
        """
        self.queue = queue
        self.items = f"queue_{next(_numbers)}"
        """name of a view of the connection: what awaits a review, with `why` and the columns of the decisions"""
        self._connection = connection
        self._seed = file.seed
        self._golden = golden
        self._given: set[tuple[str, str]] = set()
        """reviewers and images that `reviewed` took note of"""
        self._table = f"_{self.items}"
        candidates, newest = f"{self._table}_candidates", f"{self._table}_newest"
        with sql_errors():
            connection.execute(f"CREATE TEMP TABLE {candidates} AS {candidates_sql(queue, file)}")
            connection.execute(f"CREATE TEMP TABLE {newest} AS {newest_sql(candidates)}")
            connection.execute(f"CREATE TEMP TABLE {self._table} AS {items_sql(newest, queue, file.seed)} WHERE {OPEN}")
            connection.execute(f"DROP TABLE {candidates}")
            connection.execute(f"DROP TABLE {newest}")
            connection.execute(f"CREATE TEMP VIEW {self.items} AS {open_sql(self._table)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.execute(f"DROP VIEW IF EXISTS {self.items}")
        self._connection.execute(f"DROP TABLE IF EXISTS {self._table}")

    def count(self) -> int:
        """Images that await a review; golden ones are not counted."""
        return int(self.select(f"SELECT count(*) FROM {self.items}")[0]["count_star()"])  # noqa: S608

    def select(self, sql: str, **values: object) -> list[dict[str, Any]]:
        """The rows of a SELECT, such as one of the view `items`. Raises `SettingsError`."""
        with sql_errors():
            found = self._connection.execute(sql, values or None)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def page(self, after: int = 0, size: int = PAGE, reviewer: str | None = None) -> list[QueuedImage]:
        """The next items.

        Args:
            after: the position of the last item of the page before; 0 for the first page.
            size: how many; golden ones come on top.
            reviewer: leaves out what this person has reviewed, and mixes in golden items that this person has not answered.
        """
        shown = (
            f"SELECT {_COLUMNS}, pdq_quality FROM {self.items} "  # noqa: S608 - a name of ours
            "WHERE position > $after AND NOT coalesce(list_contains(reviewers, $reviewer), false) "
            "ORDER BY position LIMIT $size"
        )
        rows = self.select(  # suggestions are looked up for what is shown only
            f"SELECT {_COLUMNS}, near.action AS suggested_action, near.distance AS suggested_distance "  # noqa: S608
            f"FROM (SELECT *, {SUGGESTION} AS near FROM ({shown})) ORDER BY position",
            after=after,
            size=size,
            reviewer=reviewer,
        )
        items = [QueuedImage(**{**row, "why": Selection(row["why"]), "rules": tuple(row["rules"])}) for row in rows]
        return list(self._with_golden(items, reviewer)) if reviewer is not None and self._golden else items

    def reviewed(self, image: str, reviewer: str, *, decided: bool) -> None:
        """Take note of a review that was just appended, so that pages know without opening the queue again.

        Args:
            image: of the item.
            reviewer: who reviewed it.
            decided: whether a decision was made; an image that was escalated stays, for somebody else.
        """
        self._given.add((reviewer, image))
        self._connection.execute(
            f"UPDATE {self._table} SET answered = answered OR $decided, "  # noqa: S608
            "reviewers = list_distinct(list_append(reviewers, $reviewer)) WHERE image = $image",
            {"image": image, "reviewer": reviewer, "decided": decided},
        )

    def _with_golden(self, items: list[QueuedImage], reviewer: str) -> Iterator[QueuedImage]:
        """Before every item, by lot, an answer that this person has not given: no counter is kept, and no page repeats one."""
        share = self.queue.golden.share if self.queue.golden else 0.0
        answered = self._answered(reviewer)
        left = [
            one for one in self._golden if (one.sha256, one.rule) not in answered and (reviewer, one.sha256) not in self._given
        ]
        for item in items:
            if left and lot(item.image, self._seed, f"golden {reviewer}") < share / (1 - share):
                chosen = min(left, key=lambda one: lot(f"{one.sha256} {one.rule}", self._seed, f"{reviewer} {item.image}"))
                left.remove(chosen)
                yield _golden_item(chosen, item.position)
            yield item

    def _answered(self, reviewer: str) -> set[tuple[str | None, str | None]]:
        rows = self.select(
            "SELECT DISTINCT sha256, rule FROM reviews WHERE selection = 'golden' AND reviewer = $reviewer", reviewer=reviewer
        )
        return {(row["sha256"], row["rule"]) for row in rows}


def _golden_item(known: GoldenAnswer, position: int) -> QueuedImage:
    return QueuedImage(
        position=position,
        why=Selection.GOLDEN,
        rules=(known.rule,) if known.rule else (),
        uri=known.uri,
        sha256=known.sha256,
        image=known.sha256 or known.uri,
    )
