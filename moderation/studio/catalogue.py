"""The newest decision of every image, in a DuckDB table in memory: what the gallery filters, sorts and pages through."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from moderation.errors import SettingsError
from moderation.query import connect
from moderation.query.connection import sql_errors
from moderation.query.review_sql import RESTRICTED
from moderation.studio.filters import ORDERS, Filter, conditions
from moderation.studio.paging import Cursor

PAGE = 60
"""Images of a page."""
RULES_KEPT = 6
"""Rules whose scores are held beside the images; more are read again when they are asked for."""

_COLUMNS = (
    "uri", "etag", "status", "action", "error_code", "flags", "shadow_flags", "top_rule", "top_score AS score",
    "top_threshold AS threshold", "near_threshold", "frame", "scored_at", "run", "model_fingerprint",
)  # fmt: skip
_MAY_SHOW = f"sha256 IS NULL OR sha256 NOT IN (SELECT sha256 FROM decisions AS d WHERE sha256 IS NOT NULL AND {RESTRICTED})"  # noqa: S608
"""Images that no run found on a restricted hash list, under whatever name: of the others nothing is shown, not even a name."""
_SHOWN = (
    "uri, etag, status, action, error_code, flags, shadow_flags, top_rule, score, threshold, near_threshold, frame, "
    "scored_at, run"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One image, as its newest decision says."""

    uri: str
    etag: str
    status: str
    action: str
    error_code: str | None
    flags: list[str]
    shadow_flags: list[str]
    rule: str | None
    """the rule asked for, or the top rule"""
    score: float | None
    """of that rule"""
    threshold: float | None
    """the one of that rule that it reached, or else the closest"""
    near_threshold: bool
    frame: int
    """the frame that gave the score; 0 where there is none"""
    scored_at: datetime
    run: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where the next ones begin."""

    rows: list[Row]
    after: Cursor | None
    """None where these are the last"""


@dataclass
class _Rules:
    """Tables of the scores of one rule each."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    tables: "OrderedDict[str, str]" = field(default_factory=OrderedDict)
    made: int = 0


class Catalogue:
    """The images of the runs that were published when it was made. Threads may ask at the same time.

    Raises:
        SettingsError: no run is published, or the results cannot be read.
        OutputError: a manifest is broken.
    """

    def __init__(self, results: str) -> None:
        self._connection = connect(results)
        self._rules = _Rules()
        try:
            with sql_errors():
                runs = self._connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()
                self.runs = frozenset(run for (run,) in runs)
                """ids of the runs that it shows"""
                # A run decides an object once: with a single run there is nothing to choose from.
                source = "decisions" if len(runs) == 1 else "latest_decisions"
                columns = ", ".join(_COLUMNS)
                self._connection.execute(f"CREATE TABLE images AS SELECT {columns} FROM {source} WHERE {_MAY_SHOW}")  # noqa: S608
                self.images: int = self._one("SELECT count(*) FROM images")
                self.codes: tuple[str, ...] = self._names("SELECT DISTINCT error_code FROM images WHERE error_code IS NOT NULL")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

    def page(self, chosen: Filter, after: Cursor | None = None, size: int = PAGE) -> Page:
        """The images that are chosen, in the order that is chosen, from behind `after` on."""
        value, downwards = ORDERS[chosen.sort]
        source, parameters = self._chosen(chosen)
        behind = ""
        if after is not None:
            behind = f"WHERE place {'<' if downwards else '>'} ? OR (place = ? AND uri > ?)"
            parameters += [after.value, after.value, after.uri]
        rows = self._all(
            f"WITH chosen AS (SELECT *, {value} AS place FROM {source}) SELECT {_SHOWN}, place FROM chosen {behind} "  # noqa: S608
            f"ORDER BY place {'DESC' if downwards else 'ASC'}, uri LIMIT {size + 1}",
            parameters,
        )
        last = rows[size - 1] if len(rows) > size else None
        return Page([_row(row, chosen.rule) for row in rows[:size]], Cursor(last[-1], last[0]) if last else None)

    def count(self, chosen: Filter) -> int:
        """How many images are chosen."""
        source, parameters = self._chosen(chosen)
        return int(self._one(f"SELECT count(*) FROM {source}", parameters))  # noqa: S608

    def find(self, uri: str) -> Row | None:
        """One image by its URI; None if no run decided it."""
        rows = self._all(f"SELECT {_SHOWN} FROM images WHERE uri = ? LIMIT 1", [uri])  # noqa: S608
        return _row(rows[0], None) if rows else None

    def find_all(self, uris: list[str]) -> dict[str, Row]:
        """Those of the images that a run decided, by URI."""
        rows = self._all(f"SELECT {_SHOWN} FROM images WHERE uri IN (SELECT unnest(?))", [uris])  # noqa: S608
        return {row[0]: _row(row, None) for row in rows}

    def rows(self, sql: str, parameters: list[Any]) -> list[dict[str, Any]]:
        """Rows of the views of `moderation.query`. `sql` is never a client's."""
        with self._connection.cursor() as cursor, sql_errors():
            found = cursor.execute(sql, parameters)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _chosen(self, chosen: Filter) -> tuple[str, list[Any]]:
        source = "images" if chosen.rule is None else self._with_rule(chosen.rule)
        held = conditions(chosen)
        where = " AND ".join(sql for sql, _ in held) or "true"
        return f"(SELECT * FROM {source} WHERE {where})", [value for _, values in held for value in values]  # noqa: S608

    def _with_rule(self, rule: str) -> str:
        """SQL for the images with the scores of a rule in place of those of the top rule."""
        with self._rules.lock:
            table = self._rules.tables.get(rule)
            if table is None:
                table = self._read_rule(rule)
            self._rules.tables.move_to_end(rule)
            while len(self._rules.tables) > RULES_KEPT:
                _, oldest = self._rules.tables.popitem(last=False)
                with sql_errors():
                    self._connection.execute(f"DROP TABLE {oldest}")
        return (
            f"(SELECT images.* REPLACE (r.score AS score, r.threshold AS threshold, r.frame AS frame), r.acts "  # noqa: S608
            f"FROM images JOIN {table} AS r ON images.rowid = r.image)"
        )

    def _read_rule(self, rule: str) -> str:
        self._rules.made += 1
        table = f"rule_{self._rules.made}"
        with sql_errors(), self._connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE {table} AS SELECT i.rowid AS image, s.score, s.frame, s.action <> 'allow' AS acts, "  # noqa: S608
                "CASE WHEN s.block IS NULL OR (s.review IS NOT NULL AND abs(s.score - s.review) <= abs(s.score - s.block)) "
                "THEN s.review ELSE s.block END AS threshold "
                "FROM images AS i JOIN (SELECT run, uri, score, frame, action, review, block FROM scores WHERE rule = ?) AS s "
                "ON i.run = s.run AND i.uri = s.uri",
                [rule],
            )
        self._rules.tables[rule] = table
        return table

    def _all(self, sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor, sql_errors():
            try:
                return cursor.execute(sql, parameters).fetchall()
            except duckdb.ConversionException:
                raise SettingsError("a value of this filter makes no sense") from None

    def _one(self, sql: str, parameters: list[Any] | None = None) -> Any:
        return self._all(sql, parameters or [])[0][0]

    def _names(self, sql: str) -> tuple[str, ...]:
        return tuple(sorted(name for (name,) in self._all(sql, []) if name is not None))


def _row(values: tuple[Any, ...], rule: str | None) -> Row:
    uri, etag, status, action, code, flags, shadow, top, score, threshold, near, frame, scored_at, run = values[:14]
    return Row(
        uri, etag, status, action, code, flags, shadow, rule or top, score, threshold, bool(near), frame or 0, scored_at, run
    )
