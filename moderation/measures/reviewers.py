"""The work and the agreement of reviewers: throughput, Cohen's kappa of pairs, Krippendorff's alpha per rule, known answers."""

from dataclasses import dataclass
from datetime import date

import duckdb
import numpy as np
import pyarrow as pa

from moderation.measures.agreement import Agreement, cohen, krippendorff
from moderation.measures.rates import Rate, share
from moderation.query.connection import sql_errors
from moderation.reviews.current import IMAGE

WHOLE_IMAGE = "(whole image)"
"""In the place of a rule, where a verdict is about none."""

_ANSWERS = f"""
CREATE OR REPLACE TEMP TABLE _answers AS
SELECT {IMAGE} AS image, coalesce(rule, '{WHOLE_IMAGE}') AS rule, reviewer, verdict = 'violates' AS violates
FROM current_reviews
WHERE verdict IN ('violates', 'fine') AND selection <> 'golden' AND decided_at >= coalesce($since, TIMESTAMPTZ '0001-01-01')
    AND (blind OR NOT $blind)
QUALIFY count(*) OVER (PARTITION BY image, rule) > 1
"""  # noqa: S608

_ALPHA = """
SELECT rule, violating, fine, count(*) FROM (
    SELECT rule, count_if(violates) AS violating, count_if(NOT violates) AS fine FROM _answers GROUP BY rule, image
) GROUP BY ALL ORDER BY ALL
"""

_KAPPA = """
SELECT
    a.reviewer, b.reviewer,
    count_if(a.violates AND b.violates), count_if(a.violates AND NOT b.violates),
    count_if(NOT a.violates AND b.violates), count_if(NOT a.violates AND NOT b.violates)
FROM _answers AS a JOIN _answers AS b ON a.image = b.image AND a.rule = b.rule AND a.reviewer < b.reviewer
GROUP BY ALL ORDER BY ALL
"""

_DAYS = f"""
SELECT
    CAST(decided_at AS DATE) AS day, reviewer, count(*) AS reviews, count(DISTINCT {IMAGE}) AS images,
    median(epoch(decided_at - opened_at)) AS seconds
FROM reviews WHERE decided_at >= coalesce($since, TIMESTAMPTZ '0001-01-01')
GROUP BY ALL ORDER BY ALL
"""  # noqa: S608

_GOLDEN = f"""
SELECT reviewer, count(*), count_if((r.verdict = 'violates') = a.violates) FROM (
    SELECT {IMAGE} AS image, rule, reviewer, verdict FROM reviews
    WHERE selection = 'golden' AND verdict IN ('violates', 'fine')
        AND decided_at >= coalesce($since, TIMESTAMPTZ '0001-01-01')
    QUALIFY row_number() OVER (PARTITION BY image, rule, reviewer ORDER BY decided_at, review_id) = 1
) AS r JOIN _known_answers AS a ON a.image = r.image AND a.rule IS NOT DISTINCT FROM r.rule
GROUP BY ALL ORDER BY ALL
"""  # noqa: S608
"""The first answer counts: later ones may be learned by heart."""


@dataclass(frozen=True, slots=True)
class RuleAgreement:
    """How well all reviewers agree about a rule."""

    rule: str
    alpha: Agreement


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """How well two reviewers agree, over all rules that both judged."""

    reviewers: tuple[str, str]
    kappa: Agreement
    same: float
    """share of images and rules on which they agree"""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one person did on one day, UTC."""

    day: date
    reviewer: str
    reviews: int
    images: int
    seconds: float | None
    """median time from opening an image to the decision; None where it is not known"""


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """How often a reviewer gave the known answer."""

    reviewer: str
    right: Rate


@dataclass(frozen=True, slots=True)
class Agreements:
    """Agreement per rule and per pair of people."""

    rules: tuple[RuleAgreement, ...]
    pairs: tuple[PairAgreement, ...]


def agreements(connection: duckdb.DuckDBPyConnection, since: date | None = None, *, blind: bool = False) -> Agreements:
    """How well people agree about images that at least two of them judged; everybody's newest verdict counts.

    Args:
        connection: from `moderation.query.connect`.
        since: only verdicts of this day or later, UTC.
        blind: only of people who could not see what others said.
    """
    with sql_errors():
        connection.execute(_ANSWERS, {"since": since, "blind": blind})
        kinds = connection.execute(_ALPHA).fetchall()
        tables = connection.execute(_KAPPA).fetchall()
    by_rule: dict[str, list[tuple[int, int, int]]] = {}
    for rule, violating, fine, images in kinds:
        by_rule.setdefault(rule, []).append((violating, fine, images))
    return Agreements(
        rules=tuple(RuleAgreement(rule, krippendorff(_repeated(rows))) for rule, rows in by_rule.items()),
        pairs=tuple(_pair(first, second, counts) for first, second, *counts in tables),
    )


def throughput(connection: duckdb.DuckDBPyConnection, since: date | None = None) -> tuple[Throughput, ...]:
    """What everybody did, day by day."""
    with sql_errors():
        return tuple(Throughput(*row) for row in connection.execute(_DAYS, {"since": since}).fetchall())


def golden_results(
    connection: duckdb.DuckDBPyConnection, answers: pa.Table, since: date | None = None
) -> tuple[GoldenResult, ...]:
    """How often everybody gave the known answers. `answers`: `image` (SHA-256), `rule` (null: the whole image), `violates`."""
    connection.register("_known_answers", answers)
    try:
        with sql_errors():
            rows = connection.execute(_GOLDEN, {"since": since}).fetchall()
    finally:
        connection.unregister("_known_answers")
    return tuple(GoldenResult(reviewer, share(right, answered)) for reviewer, answered, right in rows)


def _repeated(rows: list[tuple[int, int, int]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """From kinds of images and how often each occurs to a row per image."""
    kinds = np.array([row[:2] for row in rows], np.int64)
    return np.repeat(kinds, [row[2] for row in rows], axis=0)


def _pair(first: str, second: str, counts: list[int]) -> PairAgreement:
    table = np.array(counts, np.int64).reshape(2, 2)
    return PairAgreement((first, second), cohen(table), float(np.trace(table) / table.sum()))
