"""Views of what people decided, in SQL. `docs/reviews.md` says in words which decision is in effect."""

from moderation.results import schemas
from moderation.reviews.appeal import QUEUE as APPEALS_QUEUE
from moderation.reviews.current import IMAGE, current_sql

DEFAULT_QUEUE = "review"
"""The queue of everything that awaits a person, where no `queues.yaml` says more."""

OTHER_MEANINGS = """
SELECT k.rule, k.meaning, list(m.policy_hash) AS policies
FROM (SELECT DISTINCT rule, rule_meaning AS meaning FROM internal.reviews WHERE rule_meaning IS NOT NULL) AS k
JOIN internal.meanings AS m ON m.rule = k.rule AND m.meaning <> k.meaning
GROUP BY ALL
"""
"""Of each rule and meaning that was reviewed: the policies in which the rule looks for something else."""

_KEPT = ("review_id", "reviewer", "verdict", "action", "rule", "reason", "note", "queue", "source", "decided_at")
"""What the views show of the review that is in effect."""

_NEWEST = "decided_at DESC, review_id DESC"
_STRENGTH = "CASE {} WHEN 'block' THEN 2 WHEN 'allow' THEN 0 ELSE 1 END"
_OF_DECISION = "coalesce(d.sha256, d.uri || chr(10) || d.etag)"

_APPLIES = f"""(
    r.rule IS NULL
    OR {_STRENGTH.format("r.action")} >= {_STRENGTH.format("d.action")}
    OR (r.rule = d.top_rule AND NOT coalesce(list_contains(m.policies, d.policy_hash), false))
)"""
"""Whether a decision of a person is in effect: about the whole image, not milder than the machine's, or about the rule that
decides now, which still looks for the same."""

_MEANING = "LEFT JOIN internal.other_meanings AS m ON m.rule = r.rule AND m.meaning = r.rule_meaning"


def _answers(reviews: str) -> str:
    """The decisions among reviews that count, with the image of each."""
    return f"""
        SELECT {IMAGE} AS image, m.policies, {", ".join(f"r.{name}" for name in _KEPT)}
        FROM {reviews} AS r {_MEANING} WHERE r.action IS NOT NULL
    """  # noqa: S608


def _joined(decisions: str, answers: str) -> str:
    """Decisions with each decision of a person that applies to them. What people said is in columns `r_…`, null without any."""
    applies = _APPLIES.replace("m.policies", "r.policies")
    kept = ", ".join(f"r.{name} AS r_{name}" for name in _KEPT)
    return f"SELECT d.*, {kept} FROM {decisions} AS d LEFT JOIN ({answers}) AS r ON r.image = {_OF_DECISION} AND {applies}"  # noqa: S608


_FIELDS = ", ".join(f"'{name}': r_{name}" for name in _KEPT)
_ANSWER = f"CASE WHEN r_review_id IS NOT NULL THEN {{{_FIELDS}}} END"

ANSWERED = f"""
SELECT * EXCLUDE ({", ".join(f"r_{name}" for name in _KEPT)}), {_ANSWER} AS answer
FROM ({_joined("{decisions}", _answers("current_reviews"))})
QUALIFY row_number() OVER (PARTITION BY uri, run_id ORDER BY r_decided_at DESC, r_review_id DESC) = 1
"""  # noqa: S608
"""Decisions, by the name of a view or as a query in brackets, with the newest decision of a person that is in effect."""


def effective_sql(decisions: str = "decisions", reviews: str = "current_reviews") -> str:
    """The newest decision of each object, with what a person decided over what the machine did.

    Args:
        decisions: all there are of each object: a view, or a query in brackets.
        reviews: those of its image that count.
    """
    # One window chooses the newest decision and the newest review of it: narrow columns, and nothing is sorted twice.
    return f"""
        SELECT * EXCLUDE ({", ".join(f"r_{name}" for name in _KEPT)}) REPLACE (
                CASE WHEN r_action = 'escalate' AND action = 'allow' THEN 'review'
                    WHEN r_action = 'escalate' THEN action
                    ELSE coalesce(r_action, action) END AS action
            ),
            action AS machine_action,
            CASE WHEN r_review_id IS NULL THEN 'machine' ELSE 'person' END AS decided_by,
            coalesce(r_decided_at, scored_at) AS decided_at,
            r_reviewer AS reviewer, r_verdict AS verdict, r_action AS review_action, r_rule AS reviewed_rule,
            r_reason AS reason, r_note AS note, r_queue AS queue, r_source AS review_source, r_review_id AS review_id
        FROM (
            SELECT * FROM ({_joined(decisions, _answers(reviews))})
            QUALIFY row_number() OVER (
                PARTITION BY uri ORDER BY scored_at DESC, run_id DESC, r_decided_at DESC, r_review_id DESC
            ) = 1
        )
    """  # noqa: S608


RESTRICTED = (
    "coalesce(len(list_filter(d.list_matches, lambda m: m.restricted)) > 0, false)"
    if "list_matches" in schemas.DECISIONS.names
    else "false"
)
"""Whether an image is on a hash list of which nothing may be shown. Always false while decisions have no `list_matches`."""

_QUEUE_COLUMNS = f"""
    d.uri, d.etag, d.sha256, d.pdq, d.pdq_quality, d.frame, d.status, d.error_code, d.machine_action, d.top_rule,
    d.top_category, d.top_score, d.top_threshold, d.near_threshold, d.flags, d.policy, d.policy_version, d.policy_hash,
    d.run_id, d.scored_at,
    {RESTRICTED} AS restricted
"""

_CANDIDATES = "SELECT row_number() OVER () AS n, * FROM decisions WHERE action = 'review'"

_LAST_REVIEWS = f"""
    SELECT n, max(decided_at) AS last, max(decided_at) FILTER (sent_on) AS sent_on,
        max(decided_at) FILTER (answers) AS answered, max(decided_at) FILTER (NOT answers) AS unanswered
    FROM (
        SELECT d.n, r.decided_at, coalesce(r.action IN ('review', 'escalate'), false) AS sent_on,
            coalesce(r.action IN ('allow', 'block'), false) AND {_APPLIES} AS answers
        FROM candidates AS d JOIN internal.reviews AS r USING (uri, etag) {_MEANING}
    ) GROUP BY n
"""  # noqa: S608
"""When candidates were last reviewed. Nothing supersedes the newest review: if it is a decision in effect, a candidate needs no
further look. Hashes, most of the bytes of decisions, are not read for this; reviews of the same bytes elsewhere come later."""

_OPEN = """
    SELECT c.uri, c.scored_at, c.run_id, CASE WHEN r.sent_on = r.last THEN r.last ELSE c.scored_at END AS since
    FROM candidates AS c LEFT JOIN last_reviews AS r USING (n)
    WHERE NOT coalesce(r.answered > coalesce(r.unanswered, '-infinity'), false)
"""
_SENT_ON = """
    SELECT uri, max(decided_at) AS since FROM internal.reviews AS r WHERE action IN ('review', 'escalate') GROUP BY uri
"""
"""Images that a person wanted somebody else to look at, at some time."""

_FIRST = """
    SELECT uri FROM (
        SELECT o.uri, o.since FROM open AS o JOIN (
            SELECT d.uri, max((d.scored_at, d.run_id)) AS newest
            FROM decisions AS d SEMI JOIN open AS o ON o.uri = d.uri GROUP BY d.uri
        ) AS d ON d.uri = o.uri AND d.newest = (o.scored_at, o.run_id)
        UNION ALL
        SELECT uri, since FROM sent_on WHERE NOT EXISTS (
            SELECT 1 FROM internal.reviews AS r
            WHERE r.uri = sent_on.uri AND r.action IN ('allow', 'block') AND r.decided_at > sent_on.since
        )
    ) GROUP BY uri ORDER BY min(since), uri LIMIT {most}
"""


def queue_sql(most: int | None = None) -> str:
    """Images in `review` that nobody has decided, and those that a person sent on.

    Args:
        most: look at about so many only, those that have waited longest: a page of millions then takes a fraction of the time.
    """
    wanted = "SELECT uri FROM open UNION ALL SELECT uri FROM sent_on" if most is None else _FIRST.format(most=most)
    return f"""
        WITH candidates AS MATERIALIZED ({_CANDIDATES}),
        last_reviews AS ({_LAST_REVIEWS}),
        open AS MATERIALIZED ({_OPEN}),
        sent_on AS ({_SENT_ON}),
        wanted AS MATERIALIZED ({wanted}),
        found AS MATERIALIZED (SELECT d.* FROM decisions AS d SEMI JOIN wanted USING (uri)),
        said AS MATERIALIZED (
            SELECT * REPLACE ('' AS uri, '' AS etag) FROM internal.reviews SEMI JOIN found USING (sha256)
            UNION ALL SELECT * FROM internal.reviews SEMI JOIN found USING (uri, etag) WHERE sha256 IS NULL
        ),
        current AS ({current_sql("said")})
        SELECT '{DEFAULT_QUEUE}' AS queue, d.decided_at AS waiting_since, {_QUEUE_COLUMNS},
            d.review_id AS last_review_id, d.reviewer AS last_reviewer, d.review_action AS last_action, d.note AS last_note,
            NULL::VARCHAR AS appeal_id, NULL::VARCHAR AS appeal_text
        FROM ({effective_sql("found", "current")}) AS d
        WHERE d.review_action IN ('review', 'escalate') OR (d.review_id IS NULL AND d.action = 'review')
    """  # noqa: S608


SUGGESTION = "near_review(CASE WHEN pdq_quality >= 50 THEN pdq END)"
"""What people decided about a picture that looks the same; of a hash that can be relied on."""

QUEUE = f"""
SELECT * EXCLUDE (near), near.action AS suggested_action, near.review_id AS suggested_by, near.distance AS suggested_distance
FROM (
    SELECT *, {SUGGESTION} AS near FROM (
        ({queue_sql()})
        UNION ALL
        SELECT '{APPEALS_QUEUE}' AS queue, a.filed_at AS waiting_since, {_QUEUE_COLUMNS},
            NULL, NULL, NULL, NULL, a.appeal_id, a.text
        FROM (SELECT * FROM appeals WHERE state = 'open') AS a JOIN (
            SELECT *, action AS machine_action
            FROM decisions SEMI JOIN (SELECT uri FROM appeals WHERE state = 'open') USING (uri)
            QUALIFY row_number() OVER (PARTITION BY uri ORDER BY scored_at DESC, run_id DESC) = 1
        ) AS d ON d.uri = a.uri
    )
)
"""  # noqa: S608
"""What awaits a person, and open appeals, with what is suggested."""


APPEALS = f"""
SELECT a.*,
    CASE WHEN r.review_id IS NULL THEN 'open' ELSE 'closed' END AS state,
    CASE WHEN r.action = a.appealed_action THEN 'upheld'
        WHEN {_STRENGTH.format("r.action")} < {_STRENGTH.format("a.appealed_action")} THEN 'overturned'
        WHEN {_STRENGTH.format("r.action")} > {_STRENGTH.format("a.appealed_action")} THEN 'made stricter' END AS outcome,
    r.action, r.verdict, r.reason, r.note, r.reviewer, r.review_id, r.decided_at AS closed_at,
    epoch(coalesce(r.decided_at, now()) - a.filed_at) / 3600 AS hours
FROM (SELECT * FROM internal.appeals QUALIFY row_number() OVER (PARTITION BY appeal_id) = 1) AS a
LEFT JOIN (
    SELECT * FROM current_reviews WHERE appeal_id IS NOT NULL AND action IN ('allow', 'block')
    QUALIFY row_number() OVER (PARTITION BY appeal_id ORDER BY {_NEWEST}) = 1
) AS r ON r.appeal_id = a.appeal_id
"""  # noqa: S608
"""Appeals with what became of them."""
