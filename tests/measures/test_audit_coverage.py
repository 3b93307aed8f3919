"""The whole way, over and over: audits drawn by lot, reviewed, and measured in SQL. The truth lies in the intervals."""

import duckdb
import pytest

from moderation.measures.rule_measures import measure
from moderation.queues.lots import lot_sql
from moderation.reviews.current import current_sql

REPETITIONS, ENOUGH = 200, 186
"""93 in 100"""

# By action: how many of 10,000 images, and the probability that one violates; blocked and allowed images are audited.
SHARES = {"allow": (9_400, 0.005), "review": (400, 0.6), "block": (200, 0.95)}
AUDITS = {"allow": 0.05, "block": 0.25}

WORLD = """
CREATE OR REPLACE TABLE decisions AS
SELECT
    sha256('{seed} ' || n) AS sha256, 's3://shop/' || n AS uri, '' AS etag, 'scored' AS status, DATE '2026-11-20' AS date,
    'shop' AS policy, '1' AS policy_version, 'h' AS policy_hash, 'r' AS run_id, TIMESTAMPTZ '2026-11-20 00:00:00Z' AS scored_at,
    CASE WHEN n < {allow} THEN 'allow' WHEN n < {allow} + {review} THEN 'review' ELSE 'block' END AS action,
    CASE WHEN n < {allow} THEN [] ELSE ['firearms'] END AS flags, 'firearms' AS top_rule,
    md5_number_lower('truth {seed} ' || n) / 18446744073709551616.0 < CASE
        WHEN n < {allow} THEN {p_allow} WHEN n < {allow} + {review} THEN {p_review} ELSE {p_block} END AS violates
FROM (SELECT unnest(range({images})) AS n)
"""

REVIEWS = """
CREATE OR REPLACE TABLE reviews AS
SELECT
    uri AS review_id, uri, etag, sha256, NULL::VARCHAR AS rule, NULL::VARCHAR AS rule_meaning, 'ann' AS reviewer,
    CASE WHEN violates THEN 'violates' ELSE 'fine' END AS verdict, NULL::VARCHAR AS supersedes, scored_at AS decided_at,
    CASE action WHEN 'allow' THEN 'audit_allowed' WHEN 'block' THEN 'audit_blocked' ELSE 'decision' END AS selection,
    CASE action WHEN 'allow' THEN 1 / {a_allow} WHEN 'block' THEN 1 / {a_block} END AS weight
FROM decisions
WHERE {lot} < CASE action WHEN 'allow' THEN {a_allow} WHEN 'block' THEN {a_block} ELSE 1 END
"""


@pytest.mark.slow
def test_the_truth_lies_in_the_intervals_of_audited_runs():
    names = {name: count for name, (count, _) in SHARES.items()}
    chances = {f"p_{name}": chance for name, (_, chance) in SHARES.items()}
    flagged = names["review"] + names["block"]
    right = names["review"] * chances["p_review"] + names["block"] * chances["p_block"]
    missed = names["allow"] * chances["p_allow"]
    precisions = recalls = blocks = 0
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA internal")
        connection.execute("CREATE TABLE internal.other_meanings (rule VARCHAR, meaning VARCHAR, policies VARCHAR[])")
        for seed in range(REPETITIONS):
            connection.execute(WORLD.format(seed=seed, images=sum(names.values()), **names, **chances))
            lot = lot_sql("sha256", seed, "audit")
            connection.execute(REVIEWS.format(lot=lot, **{f"a_{name}": share for name, share in AUDITS.items()}))
            connection.execute(f"CREATE OR REPLACE VIEW current_reviews AS {current_sql('reviews')}")
            found = measure(connection)
            (policy,), (rule,) = found.policies, found.rules
            precisions += rule.precision.low <= right / flagged <= rule.precision.high
            recalls += policy.recall.low <= right / (right + missed) <= policy.recall.high
            blocks += rule.blocked_precision.low <= chances["p_block"] <= rule.blocked_precision.high
    assert precisions >= ENOUGH
    assert recalls >= ENOUGH
    assert blocks >= ENOUGH
