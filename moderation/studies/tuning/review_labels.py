"""Labels from reviews: what people decided about images, each with the number of images in the results that it stands for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb

from moderation.errors import SettingsError
from moderation.labels.label_file import ANY, Label, LabelFile, Remark, read_labels
from moderation.measures.rates import NOBODY, Judged, cells
from moderation.measures.verdicts import gather_verdicts
from moderation.query.connection import connect, sql_errors
from moderation.results.archive import Archive

REVIEWS = "reviews"
"""In the place of a file of labels."""
MOST = 20_000
"""Labels of a rule in a stratum; of more, so many are taken by the hash of their bytes."""
_SMALL = 0.01

_PICTURES = """
CREATE OR REPLACE TEMP TABLE _pictures AS
SELECT image, uri, copies, newest.action AS action, newest.flags AS flags, newest.top_rule AS top_rule FROM (
    SELECT newest.image AS image, min(uri) AS uri, count(*) AS copies,
        arg_max(newest, (newest.scored_at, newest.run_id)) AS newest
    FROM (
        SELECT uri, arg_max({
            'image': sha256, 'action': action, 'flags': flags, 'top_rule': top_rule, 'scored_at': scored_at, 'run_id': run_id
        }, (scored_at, run_id)) AS newest
        FROM decisions
        WHERE status = 'scored' AND sha256 IS NOT NULL AND model_fingerprint = $fingerprint
        GROUP BY uri
    ) GROUP BY newest.image
)
"""
"""Images by their bytes, with the number of their copies."""

_STRATA = """
WITH by_action AS (SELECT action, sum(copies) AS images FROM _pictures GROUP BY action),
flagging AS (
    SELECT rule, action, sum(copies) AS images FROM (SELECT unnest(flags) AS rule, action, copies FROM _pictures) GROUP BY ALL
)
SELECT n.rule, a.action, true AS flagged, f.images::BIGINT AS images
FROM (SELECT unnest($rules) AS rule) AS n, by_action AS a JOIN flagging AS f ON f.rule = n.rule AND f.action = a.action
UNION ALL
SELECT n.rule, a.action, false, (a.images - coalesce(f.images, 0))::BIGINT
FROM (SELECT unnest($rules) AS rule) AS n, by_action AS a LEFT JOIN flagging AS f ON f.rule = n.rule AND f.action = a.action
"""

_LABELS = f"""
WITH ruled AS (SELECT image, bool_or(violates) AS violates, list(rule) AS rules FROM _rules_said GROUP BY image),
judged AS (SELECT p.* FROM _pictures AS p SEMI JOIN _said AS s ON s.image = p.image),
answered AS (
    SELECT p.*, n.rule, list_contains(p.flags, n.rule) AS flagged, CASE
        WHEN n.rule <> '{ANY}' THEN coalesce(
            r.violates, CASE WHEN NOT w.violates THEN false WHEN w.violates AND n.rule = p.top_rule THEN true END
        )
        WHEN a.violates OR w.violates THEN true
        WHEN NOT w.violates OR (len(p.flags) > 0 AND list_has_all(a.rules, p.flags)) THEN false
    END AS violates
    FROM judged AS p CROSS JOIN (SELECT unnest($rules) AS rule) AS n
    LEFT JOIN _rules_said AS r ON r.image = p.image AND r.rule = n.rule AND NOT list_contains(r.other_meaning, $policy)
    LEFT JOIN _said AS w ON w.image = p.image AND w.rule IS NULL
    LEFT JOIN ruled AS a ON a.image = p.image
),
chosen AS (
    SELECT a.*, action <> 'review' AND NOT c.single AND c.audited AS audited,
        CASE action WHEN 'allow' THEN c.allow ELSE c.block END AS asked
    FROM answered AS a JOIN _chosen AS c ON c.image = a.image WHERE violates IS NOT NULL
),
weighted AS (
    SELECT *, CASE WHEN audited THEN coalesce(asked, min(asked) OVER (PARTITION BY rule, action), 1.0) END AS audit FROM chosen
)
SELECT rule, action, flagged, audit, uri, copies, violates, (sum(copies) OVER cell)::BIGINT AS judged FROM weighted
WINDOW cell AS (PARTITION BY rule, action, flagged, audit)
QUALIFY row_number() OVER (PARTITION BY rule, action, flagged, audit ORDER BY image) <= $most
ORDER BY rule, action, flagged, audit, uri
"""  # noqa: S608


@dataclass
class _Found:
    """Labels of one stratum: images with one action that a rule flags, or does not."""

    labels: list[Label] = field(default_factory=list)
    unjudged: int = 0


def labels_of(choice: str, archive: Archive, rules: Sequence[str], policy_hash: str) -> LabelFile:
    """The labels in a file, or those of reviews if `choice` is "reviews". Arguments and errors as for `review_labels`."""
    return review_labels(archive, rules, policy_hash) if choice == REVIEWS else read_labels(Path(choice))


def review_labels(archive: Archive, rules: Sequence[str], policy_hash: str = "") -> LabelFile:
    """Labels of the images of an archive, from the newest verdicts of people.

    What is in review stands for everything in review, an audited image for what nobody looked at, and every other image for
    itself. So weights add up to the number of images, where allowed and blocked images are audited.

    Args:
        archive: whose images.
        rules: ids of the rules to label images for. `any` is always added: does any rule apply?
        policy_hash: of the policy in question; a verdict does not count for a rule that looks for something else in it.

    Returns:
        At most `MOST` labels of each rule and stratum; `remarks` names the images that no label stands for.

    Raises:
        SettingsError: there are no reviews, or results cannot be read.
        OutputError: a manifest is broken.
    """
    names = list(dict.fromkeys((*rules, ANY)))
    with connect(archive.output.uri) as connection:
        gather_verdicts(connection)
        with sql_errors():
            connection.execute(_PICTURES, {"fingerprint": archive.fingerprint})
            strata = {
                (rule, action, flagged): images
                for rule, action, flagged, images in connection.execute(_STRATA, {"rules": names}).fetchall()
            }
            rows = _rows(connection, _LABELS, {"rules": names, "policy": policy_hash, "most": MOST})
    found = {key: _Found(unjudged=images) for key, images in strata.items()}
    line = 0
    for key, members in groupby(rows, key=lambda row: (row["rule"], row["action"], row["flagged"])):
        labels, unjudged = _stratum(list(members), strata[key], line)
        found[key] = _Found(labels, unjudged)
        line += len(labels)
    every = tuple(label for one in found.values() for label in one.labels)
    if not every:
        raise SettingsError(
            f"there are no reviews of the images in {archive.output.uri}: review some (`moderate queues show`), or give a file"
        )
    return LabelFile(REVIEWS, every, len(every), tuple(_remarks(found, sum(_images(strata).values()))))


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, object]) -> list[dict[str, Any]]:
    found = connection.execute(sql, dict(values))
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _stratum(rows: list[dict[str, Any]], images: int, line: int) -> tuple[list[Label], int]:
    """The labels of one stratum, and how many images they do not stand for."""
    parts = {audit: list(part) for audit, part in groupby(rows, key=lambda row: row["audit"])}
    judged = {audit: int(part[0]["judged"]) for audit, part in parts.items()}
    sizes: dict[float | None, float] = {None: float(images)}
    if rows[0]["action"] != "review":
        single = judged.pop(None, 0)
        rest = cells(images - single, NOBODY, {audit: Judged(count) for audit, count in judged.items() if audit is not None})
        sizes = {None: float(single), **dict(zip(judged, (cell.images for cell in rest if cell.judged.images), strict=True))}
    labels = []
    for audit, part in parts.items():
        each = sizes[audit] / sum(row["copies"] for row in part)
        name = f"{part[0]['action']}{', flagged' if part[0]['flagged'] else ''}{'' if audit is None else ', audited'}"
        for row in part:
            line += 1
            labels.append(Label(row["uri"], row["rule"], row["violates"], each * row["copies"], name, line))
    return labels, round(images - sum(sizes.values()))


def _images(strata: Mapping[tuple[str, str, bool], int]) -> dict[str, int]:
    return {action: images for (rule, action, flagged), images in strata.items() if rule == ANY and not flagged}


def _remarks(found: Mapping[tuple[str, str, bool], _Found], images: int) -> Iterator[Remark]:
    """Which images no label stands for."""
    for action in ("allow", "block"):
        lost = max((one.unjudged for (_, of, flagged), one in found.items() if of == action and not flagged), default=0)
        if lost > _SMALL * images:
            name = {"allow": "allowed", "block": "blocked"}[action]
            yield Remark(
                f"nobody reviewed a random sample of {lost:,} {name} images, so no label stands for them, and recall is "
                f"that of the other images: set `audit: {{{name}: ...}}` in queues.yaml",
                (),
                "left out",
            )
