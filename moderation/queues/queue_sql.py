"""The images of a queue in SQL, and why each is in it."""

from moderation.query.review_sql import ANSWERED, RESTRICTED
from moderation.queues.lots import lot_sql
from moderation.queues.queue_schema import Order, Queue, QueueFile
from moderation.reviews.current import IMAGE

_NEAREST = "coalesce(abs(top_score - top_threshold), 'inf'::DOUBLE)"
_KEYS = {
    Order.SEVERITY: "coalesce(severity, -1) DESC, top_score DESC NULLS LAST",
    Order.OLDEST: "scored_at",
    Order.NEAREST_TO_THRESHOLD: _NEAREST,
    Order.MOST_UNCERTAIN: f"coalesce(abs(share_violating - 0.5), 0), {_NEAREST}",
}

OPEN = "(NOT answered OR (second AND len(reviewers) < 2))"
"""Nobody has decided about the image, or only one of the two people who should."""

_VERDICTS_BY_SCORE = """
    SELECT
        coalesce(rule, machine_rule) AS rule, floor(20 * machine_score) AS step,
        (count_if(verdict = 'violates') + 1) / (count(*) + 2) AS share_violating
    FROM current_reviews
    WHERE verdict IN ('violates', 'fine') AND machine_score IS NOT NULL AND selection <> 'golden'
    GROUP BY ALL
"""
"""By rule and score in steps of 1/20: the share of images that people found to violate (Laplace's rule of succession)."""

_SENT_BACK = f"""
    SELECT {IMAGE} FROM current_reviews WHERE action IN ('review', 'escalate') AND queue = '{{name}}'
"""  # noqa: S608
"""Images that a reviewer of the queue wants somebody else to look at."""


def candidates_sql(queue: Queue, file: QueueFile) -> str:
    """Decisions that a queue of the file asks about, if they are the newest of their images."""
    return f"""
        SELECT * EXCLUDE (chosen), chosen.why AS why, chosen.weight AS weight FROM (
            SELECT
                {IMAGE} AS image, uri, etag, sha256, pdq, pdq_quality, frame, run_id, policy, policy_version, policy_hash,
                error_code, action, flags, top_rule, top_category, top_score, top_threshold, scored_at,
                {RESTRICTED} AS restricted, {_chosen(queue, file)} AS chosen
            FROM decisions AS d
        )
        WHERE chosen.why IS NOT NULL
    """  # noqa: S608


def newest_sql(candidates: str) -> str:
    """Those of the table `candidates` that are, each image once. Looks at no more of other decisions than their names."""
    return f"""
        SELECT c.* FROM {candidates} AS c JOIN (
            SELECT d.uri, max((d.scored_at, d.run_id)) AS newest
            FROM decisions AS d SEMI JOIN {candidates} AS c ON c.uri = d.uri GROUP BY d.uri
        ) AS n ON n.uri = c.uri AND n.newest = (c.scored_at, c.run_id)
        QUALIFY row_number() OVER (PARTITION BY c.image ORDER BY c.uri) = 1
    """  # noqa: S608


def items_sql(newest: str, queue: Queue, seed: int) -> str:
    """Those of the table `newest` in the queue's order, with what people have said of them.

    Audits, in an order by chance, are spread evenly over the queue: whoever has worked through a part of it has judged the
    same part of the audits, and no special kind of them.
    """
    items = f"""
        SELECT
            d.* EXCLUDE (answer), s.severity, v.share_violating, coalesce(r.reviewers, []) AS reviewers,
            coalesce(answer.action NOT IN ('review', 'escalate'), false) AS answered, answer.note AS last_note,
            {lot_sql("d.image", seed, "second")} < {queue.double_review!r} AS second,
            {lot_sql("d.image", seed, "order")} AS lot
        FROM ({ANSWERED.replace("{decisions}", newest)}) AS d
        LEFT JOIN _severities AS s ON s.policy_hash = d.policy_hash AND s.rule = d.top_rule
        LEFT JOIN ({_VERDICTS_BY_SCORE}) AS v ON v.rule = d.top_rule AND v.step = floor(20 * d.top_score)
        LEFT JOIN (
            SELECT {IMAGE} AS image, list(DISTINCT reviewer) AS reviewers
            FROM current_reviews WHERE selection <> 'golden' GROUP BY ALL
        ) AS r ON r.image = d.image
    """  # noqa: S608
    order = f"CASE WHEN why <> 'decision' THEN lot END, {_KEYS[queue.order]}, image"
    return f"""
        SELECT * EXCLUDE (place, lot), row_number() OVER (ORDER BY place, lot, image) AS position FROM (
            SELECT *, (row_number() OVER (PARTITION BY why = 'decision' ORDER BY {order}) - 0.5)
                / count(*) OVER (PARTITION BY why = 'decision') AS place
            FROM ({items})
        )
    """  # noqa: S608


def open_sql(items: str) -> str:
    """What awaits a review of the table `items`, and the rules that it is asked about; none: the whole image."""
    return f"""
        SELECT * REPLACE (CASE WHEN answered THEN 'double' ELSE why END AS why),
            CASE WHEN why = 'decision' THEN flags ELSE [] END AS rules
        FROM {items} WHERE {OPEN}
    """  # noqa: S608


def _chosen(queue: Queue, file: QueueFile) -> str:
    """Why a decision is in the queue, and how many images it stands for: a struct, of nulls if it is not.

    Audits choose from what no queue asks about anyway. Where those of several queues overlap, their lots are the same, so the
    largest share is the probability that one of them chooses an image.
    """
    elsewhere = " OR ".join(condition(one.where) for one in file.queues)
    audits = []
    for action, name in (("allow", "allowed"), ("block", "blocked")):
        shares = [(getattr(one.audit, name), condition(one.audit.where)) for one in file.queues]
        most = f"greatest({', '.join(f'CASE WHEN {scope} THEN {share!r} ELSE 0 END' for share, scope in shares)}, 0.0)"
        share = getattr(queue.audit, name)
        audits.append(
            f"WHEN action = '{action}' AND status = 'scored' AND sha256 IS NOT NULL AND {condition(queue.audit.where)} "
            f"AND {lot_sql('sha256', file.seed, 'audit')} < {share!r} AND NOT ({elsewhere}) "
            f"THEN {{'why': 'audit_{name}', 'weight': 1 / {most}}}"
        )
    nothing = "NULL::DOUBLE"
    decision = f"WHEN {condition(queue.where)} THEN {{'why': 'decision', 'weight': {nothing}}}"
    sent_back = f"WHEN {IMAGE} IN ({_SENT_BACK.format(name=queue.name)}) THEN {{'why': 'decision', 'weight': {nothing}}}"
    return f"CASE {' '.join([decision, *audits, sent_back])} ELSE {{'why': NULL, 'weight': {nothing}}} END"


def condition(sql: str | None) -> str:
    """A checked condition as a part of other SQL, true or false and never null. It may end in a comment."""
    return "true" if sql is None else f"coalesce((\n{sql}\n)::BOOLEAN, false)"
