"""Views of what people decided, in SQL. `docs/reviews.md` says in words which decision is in effect."""

from moderation.results import schemas
from moderation.reviews.appeal import QUEUE as APPEALS_QUEUE
from moderation.reviews.current import IMAGE

DEFAULT_QUEUE = "review"
"""The queue of everything that awaits a person, where no `queues.yaml` says more."""

_KEPT = ("review_id", "reviewer", "verdict", "action", "rule", "reason", "note", "queue", "source", "decided_at")
"""What the view of effective decisions shows of a review."""

OTHER_MEANINGS = """
SELECT k.rule, k.meaning, list(m.policy_hash) AS policies
FROM (SELECT DISTINCT rule, rule_meaning AS meaning FROM internal.reviews WHERE rule_meaning IS NOT NULL) AS k
JOIN internal.meanings AS m ON m.rule = k.rule AND m.meaning <> k.meaning
GROUP BY ALL
"""
"""Of each rule and meaning that was reviewed: the policies in which the rule looks for something else."""

ANSWERS = f"""
SELECT {IMAGE} AS image,
    list({{{", ".join(f"'{name}': r.{name}" for name in _KEPT)}, 'other_meaning': m.policies}}
        ORDER BY decided_at DESC, review_id DESC) AS answers
FROM current_reviews AS r
LEFT JOIN internal.other_meanings AS m ON m.rule = r.rule AND m.meaning = r.rule_meaning
WHERE r.action IS NOT NULL
GROUP BY ALL
"""  # noqa: S608
"""By image: decisions of people that count, newest first; with each, the policies in which its rule means something else."""

_STRENGTH = "CASE {} WHEN 'block' THEN 2 WHEN 'allow' THEN 0 ELSE 1 END"

_APPLIES = f"""
    x.rule IS NULL
    OR {_STRENGTH.format("x.action")} >= {_STRENGTH.format("d.action")}
    OR (x.rule = d.top_rule AND NOT coalesce(list_contains(x.other_meaning, d.policy_hash), false))
"""
"""Whether a decision of a person is in effect: about the whole image, not milder than the machine's, or about the rule that
decides now, which still looks for the same."""

ANSWERED = f"""
SELECT d.*, list_filter(a.answers, lambda x: {_APPLIES})[1] AS answer
FROM {{decisions}} AS d LEFT JOIN internal.answers AS a ON a.image = coalesce(d.sha256, d.uri || chr(10) || d.etag)
"""  # noqa: S608
"""Decisions with the newest decision of a person that is in effect."""


def effective_sql(decisions: str = "latest_decisions") -> str:
    """Decisions, by the name of a view or as a query in brackets, with what people decided over what the machine did."""
    return f"""
SELECT * EXCLUDE (answer) REPLACE (
        CASE WHEN answer.action = 'escalate' AND action = 'allow' THEN 'review'
            WHEN answer.action = 'escalate' THEN action
            ELSE coalesce(answer.action, action) END AS action
    ),
    action AS machine_action,
    CASE WHEN answer.review_id IS NULL THEN 'machine' ELSE 'person' END AS decided_by,
    coalesce(answer.decided_at, scored_at) AS decided_at,
    answer.reviewer, answer.verdict, answer.action AS review_action, answer.rule AS reviewed_rule, answer.reason, answer.note,
    answer.queue, answer.source AS review_source, answer.review_id
FROM ({ANSWERED.format(decisions=decisions)})
"""  # noqa: S608


def newest_of(decisions: str) -> str:
    """Of the rows of a query over `decisions`, those of each object that no later one replaces, as in `latest_decisions`."""
    return f"{decisions} QUALIFY row_number() OVER (PARTITION BY uri ORDER BY scored_at DESC, run_id DESC) = 1"


_AWAITING = f"""
WITH wanted AS (
    SELECT uri FROM decisions WHERE action = 'review'
    UNION ALL
    SELECT d.uri FROM decisions AS d
    SEMI JOIN internal.sent_back AS s ON s.image = coalesce(d.sha256, d.uri || chr(10) || d.etag)
)
{newest_of("SELECT d.* FROM decisions AS d SEMI JOIN wanted USING (uri)")}
"""  # noqa: S608
SENT_BACK = """
SELECT image FROM internal.answers WHERE len(list_filter(answers, lambda x: x.action IN ('review', 'escalate'))) > 0
"""
"""Images that a person wants somebody to look at, whatever the machine says of them."""

RESTRICTED = (
    "coalesce(len(list_filter(d.list_matches, lambda m: m.restricted)) > 0, false)"
    if "list_matches" in schemas.DECISIONS.names
    else "false"
)
"""Whether an image is on a hash list of which nothing may be shown. Always false while decisions have no `list_matches`."""

_QUEUE_COLUMNS = f"""
    d.uri, d.etag, d.sha256, d.pdq, d.frame, d.status, d.error_code, d.action AS machine_action, d.top_rule, d.top_category,
    d.top_score, d.top_threshold, d.near_threshold, d.flags, d.policy, d.policy_version, d.policy_hash, d.run_id, d.scored_at,
    {RESTRICTED} AS restricted
"""

QUEUE = f"""
SELECT '{DEFAULT_QUEUE}' AS queue, coalesce(answer.decided_at, scored_at) AS waiting_since, {_QUEUE_COLUMNS},
    answer.review_id AS last_review_id, answer.reviewer AS last_reviewer, answer.action AS last_action,
    answer.note AS last_note,
    NULL::VARCHAR AS appeal_id, NULL::VARCHAR AS appeal_text
FROM ({ANSWERED.format(decisions=f"({_AWAITING})")}) AS d
WHERE answer.action IN ('review', 'escalate') OR (answer.review_id IS NULL AND d.action = 'review')
UNION ALL
SELECT '{APPEALS_QUEUE}' AS queue, a.filed_at AS waiting_since, {_QUEUE_COLUMNS},
    NULL, NULL, NULL, NULL, a.appeal_id, a.text
FROM (SELECT * FROM appeals WHERE state = 'open') AS a JOIN latest_decisions AS d
    ON d.uri = a.uri
"""  # noqa: S608
"""What awaits a person: images in `review` that nobody has decided, those that a person sent on, and open appeals."""

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
    QUALIFY row_number() OVER (PARTITION BY appeal_id ORDER BY decided_at DESC, review_id DESC) = 1
) AS r ON r.appeal_id = a.appeal_id
"""  # noqa: S608
"""Appeals with what became of them."""
