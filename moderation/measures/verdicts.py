"""What people said about images, whoever said it last, and why they saw them: as temporary tables of a connection.

What somebody said of the whole image answers for its rules: "fine" for all of them, "violates" for the one that decided or, of
an allowed image, came closest.
"""

import duckdb

from moderation.query.connection import sql_errors
from moderation.reviews.current import IMAGE

_SAID = f"""
CREATE OR REPLACE TEMP TABLE _said AS
SELECT {IMAGE} AS image, rule, verdict = 'violates' AS violates, decided_at, rule_meaning
FROM current_reviews WHERE verdict IN ('violates', 'fine') AND selection <> 'golden'
QUALIFY row_number() OVER (PARTITION BY image, rule ORDER BY decided_at DESC, review_id DESC) = 1
"""  # noqa: S608

_RULES_SAID = """
CREATE OR REPLACE TEMP TABLE _rules_said AS
SELECT
    r.image, r.rule, r.violates AND NOT coalesce(NOT w.violates AND w.decided_at > r.decided_at, false) AS violates,
    coalesce(m.policies, []) AS other_meaning
FROM _said AS r
LEFT JOIN _said AS w ON w.image = r.image AND w.rule IS NULL
LEFT JOIN internal.other_meanings AS m ON m.rule = r.rule AND m.meaning = r.rule_meaning
WHERE r.rule IS NOT NULL
"""
"""By rule, with the policies in which the rule looks for something else. A later "fine" of the whole image counts."""

_CHOSEN = f"""
CREATE OR REPLACE TEMP TABLE _chosen AS
SELECT
    {IMAGE} AS image,
    coalesce(bool_or(selection NOT IN ('audit_allowed', 'audit_blocked', 'double')), false) AS single,
    max(weight) FILTER (selection = 'audit_allowed') AS allow,
    max(weight) FILTER (selection = 'audit_blocked') AS block,
    bool_or(selection IN ('audit_allowed', 'audit_blocked')) AS audited
FROM reviews GROUP BY image
"""  # noqa: S608
"""Why people saw an image: only because an audit chose it, with what weight, or for another reason."""


def gather_verdicts(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables `_said`, `_rules_said` and `_chosen`. `connection`: from `moderation.query.connect`."""
    with sql_errors():
        for sql in (_SAID, _RULES_SAID, _CHOSEN):
            connection.execute(sql)
