"""One shard of a backtest: its images decided by both policies, counted, and those that change as rows. Pure."""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from moderation.policy.decision import ACTIONS
from moderation.query.condition import Condition
from moderation.results import showing
from moderation.results.showing import BYTE_HASHES
from moderation.results.stored_images import StoredImages
from moderation.studies.backtest import changed_images
from moderation.studies.backtest.backtest_result import Changed
from moderation.studies.backtest.counting import Tally
from moderation.studies.backtest.folders import FolderCounts
from moderation.studies.backtest.labelled import Flags, flags_of
from moderation.studies.backtest.shown_images import EXAMPLES, Nearest
from moderation.studies.backtest.sides import (
    Scored,
    Scorer,
    action_labels,
    flag_lists,
    labels,
    published,
    unscored_lists,
    unscored_verdicts,
    verdict_flags,
)

_NAMES = tuple(action.value for action in ACTIONS)


@dataclass
class ShardFound:
    """What a shard adds to a backtest."""

    tally: Tally = field(default_factory=Tally)
    scored: int = 0
    errors: int = 0
    not_chosen: int = 0
    """images for which the condition does not hold"""
    rows: int = 0
    """decision rows that were looked at"""
    nearest: list[tuple[int, Changed]] = field(default_factory=list)
    """by the new policy's rule"""
    examples: dict[tuple[str, str], list[Changed]] = field(default_factory=dict)
    would_flag: dict[int, list[Changed]] = field(default_factory=dict)
    """by the new policy's shadow rule, those with the highest scores first"""
    labelled: dict[str, Flags] = field(default_factory=dict)
    """by URI, of images with labels"""
    changed: pa.Table = field(default_factory=changed_images.SCHEMA.empty_table)


@dataclass(frozen=True)
class Comparison:
    """Two policies, of which the old one may be what was published. Call it with the images of a shard."""

    new: Scorer
    old: Scorer | None
    condition: Condition | None
    hashes: dict[str, str]
    """the policy hash of each run"""
    nearest: Nearest
    folders: FolderCounts
    same_scores: bool = False
    """whether both policies give every image the same scores"""
    labelled: pa.Array | None = None
    """URIs of images with labels"""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of `decisions` that are needed."""
        own: tuple[str, ...] = ("run_id", "last_modified", "action", "error_code", "list_matches")
        own += BYTE_HASHES if self.needs_hashes else ()
        own += ("flags", "top_rule", "top_score") if self.old is None else ()
        return tuple(dict.fromkeys((*own, *(self.condition.columns if self.condition else ()))))

    @property
    def needs_hashes(self) -> bool:
        """Whether the hashes of frames are needed."""
        return bool(self.new.lists or (self.old and self.old.lists))

    def __call__(self, images: StoredImages) -> ShardFound:
        """Decide and count the images of a shard."""
        found = ShardFound(rows=len(images.scored) + len(images.errors))
        if self.condition is not None:
            chosen, failed = self.condition.holds(images.scored), self.condition.holds(images.errors)
            images = images.keep(chosen, failed)
            found.not_chosen = found.rows - len(images.scored) - len(images.errors)
        found.scored, found.errors = len(images.scored), len(images.errors)
        parts = []
        if found.scored:
            parts.append(self._scored(found, images))
        if found.errors:
            parts.append(self._errors(found, images.errors))
        found.changed = pa.concat_tables(parts) if parts else found.changed
        return found

    def _scored(self, found: ShardFound, images: StoredImages) -> pa.Table:
        new = Scored.of(self.new, images)
        after = new.verdicts()
        if self.old is None:
            old, before = None, published(images.scored)
        else:
            old = new.under(self.old) if self.same_scores else Scored.of(self.old, images)
            before = old.verdicts()
        shown = showing.may_show(images.scored) & ~new.restricted
        if old is not None:
            shown &= ~old.restricted
        found.tally.count(images.scored, before.action, after.action, self.folders.depth)
        found.tally.count_flags(before, after)
        if self.labelled is not None:
            found.labelled = flags_of(images.scored["uri"], self.labelled, before, after)
        distances = self.new.thresholds.distance(new.scores)
        distances[~shown] = np.nan  # near to nothing
        for image, rule in self.nearest.candidates(distances):
            found.nearest.append((rule, self._near(new, before.action, after.action, image, rule)))
        self._shadow(found, new, shown, before.action, after.action)
        changed = np.flatnonzero(before.action != after.action)
        if not len(changed):
            return changed_images.SCHEMA.empty_table()
        rows = self._changed(new, old, changed, before.action[changed], after.action[changed])
        _add_examples(found, rows.filter(pa.array(shown[changed])))
        return rows

    def _near(self, new: Scored, before: NDArray[np.int8], after: NDArray[np.int8], image: int, rule: int) -> Changed:
        at, of = np.array([image]), np.array([rule])
        score = new.scores[at, of]
        return Changed(
            uri=new.images.scored["uri"][image].as_py(),
            etag=new.images.scored["etag"][image].as_py(),
            frame=int(new.frames(at, of)[0]),
            before=_NAMES[before[image]],
            after=_NAMES[after[image]],
            rule=self.new.names[rule],
            score=float(score[0]),
            threshold=_short(self.new.thresholds.nearer(score, of)[0]),
        )

    def _shadow(
        self, found: ShardFound, new: Scored, shown: NDArray[np.bool_], before: NDArray[np.int8], after: NDArray[np.int8]
    ) -> None:
        """What shadow rules and lists would flag: how many, and under rules the images with the highest scores."""
        found.tally.would |= new.would_match()
        for rule, all_images in self.new.would(new.scores).items():
            found.tally.would[self.new.names[rule]] = len(all_images)
            images = all_images[shown[all_images]]
            score = new.scores[images, rule]
            block = self.new.thresholds.block[rule]
            for at in np.argsort(-score, kind="stable")[:EXAMPLES]:
                one = self._near(new, before, after, int(images[at]), rule)
                does = "block" if score[at] >= block else "review"
                found.would_flag.setdefault(rule, []).append(replace(one, before=one.after, after=does))

    def _changed(
        self, new: Scored, old: Scored | None, image: NDArray[np.int64], before: NDArray[np.int8], after: NDArray[np.int8]
    ) -> pa.Table:
        """The rows of images [K] whose actions [K] differ."""
        rows = new.images.scored.take(pa.array(image))
        scores = new.scores[image]
        decided = new.decide(image)
        rule_after = labels(self.new.all_names, np.where(after > 0, decided.top, -1))
        if old is None:
            rule_before = pc.if_else(pa.array(before > 0), rows["top_rule"].combine_chunks(), pa.scalar(None, pa.string()))
            flags_before = rows["flags"].combine_chunks()
        else:
            decided_before = old.decide(image)
            rule_before = labels(old.scorer.all_names, np.where(before > 0, decided_before.top, -1))
            flags_before = flag_lists(decided_before.acting, old.scorer.all_names)
        rule = pc.coalesce(rule_after, rule_before)
        index = pc.fill_null(pc.index_in(rule, pa.array(self.new.names)), -1).to_numpy().astype(np.int64)
        score = scores[np.arange(len(image)), index]
        unknown = index < 0
        score_before = _top_score(rows, rule) if old is None else _score_of(old, image, rule)
        return self._table(
            rows,
            before,
            after,
            rule_before=rule_before,
            rule_after=rule_after,
            rule=rule,
            score=pa.array(score, mask=unknown),
            score_before=score_before,
            threshold=pa.array(self.new.thresholds.nearer(score, index), mask=unknown),
            frame=pa.array(new.frames(image, index), mask=unknown),
            flags_before=flags_before,
            flags_after=flag_lists(decided.acting, self.new.all_names),
            near_threshold=pa.array(decided.rules.near),
        )

    def _errors(self, found: ShardFound, rows: pa.Table) -> pa.Table:
        """Images without scores: `unreadable`, `unsupported` or a hash list decides, or did."""
        new = self.new.unscored(rows)
        old = None if self.old is None else self.old.unscored(rows)
        before = published(rows) if old is None else unscored_verdicts(old)
        after = unscored_verdicts(new)
        found.tally.count(rows, before.action, after.action, self.folders.depth, unreadable=True)
        found.tally.count_flags(before, after)
        for name, count in new.counts().shadow.items():
            found.tally.would[name] = found.tally.would.get(name, 0) + count
        changed = np.flatnonzero(before.action != after.action)
        taken = pa.array(changed)
        table = self._table(
            rows.take(taken),
            before.action[changed],
            after.action[changed],
            rule_before=(rows["top_rule"].combine_chunks() if old is None else unscored_lists(old)).take(taken),
            rule_after=unscored_lists(new).take(taken),
            flags_before=verdict_flags(before).take(taken),
            flags_after=verdict_flags(after).take(taken),
        )
        shown = showing.may_show(rows) & ~new.restricted
        if old is not None:
            shown &= ~old.restricted
        _add_examples(found, table.filter(pa.array(shown[changed])))
        return table

    def _table(self, rows: pa.Table, before: NDArray[np.int8], after: NDArray[np.int8], **columns: pa.Array) -> pa.Table:
        """In the schema of changed images; what is not given is null, empty or false."""
        count = len(rows)
        before_hash = self.old.compiled.policy.hash if self.old else self.hashes[rows["run_id"][0].as_py()] if count else ""
        given = {
            "before": action_labels(before),
            "after": action_labels(after),
            "flags_before": flag_lists(np.zeros((count, 0), np.bool_), ()),
            "flags_after": flag_lists(np.zeros((count, 0), np.bool_), ()),
            "near_threshold": pa.array(np.zeros(count, np.bool_)),
            "policy_hash_before": pa.repeat(before_hash, count),
            "policy_hash_after": pa.repeat(self.new.compiled.policy.hash, count),
            **columns,
        }
        taken = {name: rows[name] for name in rows.column_names}
        whole = {f.name: given.get(f.name, taken.get(f.name)) for f in changed_images.SCHEMA}
        filled = {f.name: pa.nulls(count, f.type) if whole[f.name] is None else whole[f.name] for f in changed_images.SCHEMA}
        return pa.table(filled, schema=changed_images.SCHEMA)


def _add_examples(found: ShardFound, rows: pa.Table) -> None:
    """Some of the changed images of each kind of change, those nearest to a threshold first."""
    score, threshold = (rows[name].to_numpy(zero_copy_only=False) for name in ("score", "threshold"))
    away = np.nan_to_num(np.abs(score - threshold), nan=np.inf)  # nulls are NaN
    kinds = pc.binary_join_element_wise(rows["before"], rows["after"], " ").dictionary_encode().combine_chunks()
    code = kinds.indices.to_numpy()
    for number, kind in enumerate(kinds.dictionary.to_pylist()):
        of_kind = np.flatnonzero(code == number)
        first = of_kind[np.argsort(away[of_kind], kind="stable")[:EXAMPLES]]
        before, after = kind.split(" ")
        found.examples.setdefault((before, after), []).extend(
            Changed(
                uri=row["uri"],
                etag=row["etag"],
                frame=row["frame"] or 0,
                before=before,
                after=after,
                rule=row["rule"],
                score=row["score"],
                score_before=row["score_before"],
                threshold=None if row["threshold"] is None else _short(np.float32(row["threshold"])),
            )
            for row in rows.take(pa.array(first)).to_pylist()
        )


def _top_score(rows: pa.Table, rule: pa.Array) -> pa.Array:
    """The published score [K] of each image under a rule [K], where that rule is the one that the row names."""
    known = pc.fill_null(pc.equal(rows["top_rule"].combine_chunks(), rule), fill_value=False)
    return pc.if_else(known, rows["top_score"].combine_chunks().cast(pa.float32()), pa.scalar(None, pa.float32()))


def _score_of(old: Scored, image: NDArray[np.int64], rule: pa.Array) -> pa.Array:
    """The old policy's score [K] of each image under a rule [K]; null where the policy does not score it."""
    index = pc.fill_null(pc.index_in(rule, pa.array(old.scorer.names, pa.string())), -1).to_numpy().astype(np.int64)
    return pa.array(old.scores[image, index] if old.scorer.names else np.zeros(len(image), np.float32), mask=index < 0)


def _short(threshold: np.float32) -> float:
    """A threshold as the policy has it: 0.9 and not 0.8999999761581421."""
    return float(str(threshold))
