"""A backtest: re-decides everything stored, and compares with the earlier decisions. Start here.

Shards are read, scored, decided by both policies and counted in threads (`shards.py`); what they found is added up here.
"""

import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from moderation.common.progress import Progress, tell
from moderation.errors import SettingsError
from moderation.labels.label_file import LabelFile
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.schema import Policy
from moderation.query.condition import Condition
from moderation.results.archive import Archive, ArchivedRun
from moderation.studies.backtest.backtest_result import Backtest, RuleChange
from moderation.studies.backtest.changed_images import writing
from moderation.studies.backtest.counting import Total, before_after, day_name
from moderation.studies.backtest.labelled import Flags, by_labels
from moderation.studies.backtest.shard_backtest import Comparison
from moderation.studies.backtest.shown_images import Examples, Nearest, WouldFlag
from moderation.studies.backtest.sides import Scorer

STAGE = "re-deciding"
PUBLISHED = "published"


def backtest(
    new: CompiledPolicy,
    archive: Archive,
    changed: Path,
    *,
    old: CompiledPolicy | None = None,
    against: str = PUBLISHED,
    condition: Condition | None = None,
    labels: LabelFile | None = None,
    threads: int | None = None,
) -> Backtest:
    """What the new policy would have decided about every image of an archive. No image is fetched.

    Args:
        new: the new policy.
        archive: what published runs hold of its model.
        changed: the Parquet file that becomes the list of changed images (`changed_images.SCHEMA`).
        old: what it is compared with; None for the decisions as they were published.
        against: what to call the old one: its file.
        condition: which images, of those of the archive, at their newest decision.
        labels: people's answers, by which precision and recall of both sides are estimated.
        threads: how many shards are worked on at a time; one for each processor by default.

    Raises:
        SettingsError: there is no image to decide about, or the condition cannot be computed.
        OutputError: stored files cannot be read, or the list cannot be written.
    """
    began = time.monotonic()
    scorer, old_scorer = Scorer(new), Scorer(old) if old else None
    total, examples = Total(), Examples()
    nearest, would_flag = Nearest(len(scorer.rules)), WouldFlag()
    compare = Comparison(
        new=scorer,
        old=old_scorer,
        condition=condition,
        hashes={run.run_id: run.hash for run in archive.runs},
        nearest=nearest,
        folders=total.folders,
        same_scores=old_scorer is not None and scorer.same_scores(old_scorer),
        labelled=None if labels is None else pa.array(sorted({label.uri for label in labels.labels}), pa.string()),
    )
    flags: dict[str, Flags] = {}
    planned = sum(shard.decisions.rows for shard in archive.shards)
    scored = errors = not_chosen = 0
    tell(Progress(STAGE, planned=planned))
    with (
        writing(changed) as rows,
        closing(archive.each(compare.columns, compare, threads, with_hashes=compare.needs_hashes)) as shards,
    ):
        done = 0
        for shard, found in zip(archive.shards, shards, strict=True):
            total.add(found.tally)
            nearest.add(found.nearest)
            examples.add(found.examples)
            would_flag.add(found.would_flag)
            flags |= found.labelled
            rows.add(found.changed)
            scored, errors, not_chosen = scored + found.scored, errors + found.errors, not_chosen + found.not_chosen
            done += shard.decisions.rows
            tell(Progress(STAGE, planned=planned, done=done, errors=errors))
        if scored + errors == 0:
            raise SettingsError(_nothing(archive, condition, not_chosen))
    days = sorted(total.days)
    return Backtest(
        against=against,
        old=policy_name(old.policy) if old else ", ".join(dict.fromkeys(map(policy_name, archive.runs))),
        new=policy_name(new.policy),
        archive=archive.used,
        left_out=archive.others,
        scored=scored,
        errors=errors,
        transitions=total.by_action(),
        rules=_rules(total, scorer, nearest, would_flag),
        prefixes=total.by_folder(),
        days=total.by_day(),
        examples=examples.all(),
        first_day=day_name(days[0]),
        last_day=day_name(days[-1]),
        seconds=time.monotonic() - began,
        total=before_after(total.transitions),
        unreadable=before_after(total.unreadable),
        where=condition.sql if condition else None,
        not_chosen=not_chosen,
        runs_left_out=len(archive.left_out),
        images_left_out=sum(run.scored for run in archive.left_out),
        labelled=None if labels is None else by_labels(labels, flags, scorer.names),
    )


def policy_name(policy: Policy | ArchivedRun) -> str:
    """A policy in words: name, version and hash."""
    return f"{policy.policy} {policy.version} ({policy.hash})"


def _rules(total: Total, scorer: Scorer, nearest: Nearest, would_flag: WouldFlag) -> dict[str, RuleChange]:
    """Those of the new policy in its order, then those that only the old one has."""
    found = {}
    for name in dict.fromkeys((*scorer.all_names, *total.rules)):
        counts = total.rules.get(name)
        at = scorer.names.index(name) if name in scorer.names else -1
        near, would = (nearest.of(at), would_flag.of(at)) if at >= 0 else ((), ())
        before, after, both = (counts.before, counts.after, counts.both) if counts else (0, 0, 0)
        found[name] = RuleChange(
            before,
            after,
            gained=after - both,
            lost=before - both,
            nearest=near,
            would=total.would.get(name, 0),
            would_flag=would,
        )
    return found


def _nothing(archive: Archive, condition: Condition | None, not_chosen: int) -> str:
    if condition is not None and not_chosen:
        return f"--where {condition.sql!r} is true for none of the {not_chosen:,} images: there is nothing to re-decide"
    return f"the runs under {archive.output.uri} have no image: there is nothing to re-decide"
