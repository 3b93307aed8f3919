"""Run-level checks of the sums: does everything add up, and is the run worth reading?"""

import pandas as pd

from moderation.policy.schema import Action
from moderation.quality.facts import RunFacts
from moderation.quality.quality_limits import QualityLimits
from moderation.quality.questions import NAN, Question, at_most, equal, holds, most, percent, some, too_few
from moderation.quality.verdicts import Expectation, Words


def accounting(facts: RunFacts, *_: object) -> Question:
    """Every listed object is accounted for, exactly once."""
    counts, accounted = facts.counts, facts.unchanged + facts.processed
    found = f"{facts.listed:,} listed; {facts.unchanged:,} unchanged, {counts.scored:,} scored, {counts.errors:,} errored"
    sums = {facts.expected.run_id: (facts.listed, accounted)}
    if facts.named is not None and facts.named != facts.listed:
        found += f"; {facts.named:,} by the sources' own count"
        sums[f"{facts.expected.run_id}: own count"] = (facts.named, accounted)
    words = Words(found, "listed is the sum of the others, and equals the sources' own count", ())
    return equal("accounting", "run", sums, words)


def rows_counted(facts: RunFacts, *_: object) -> Question:
    """The files hold the rows that the sums speak of."""
    scored, found = facts.counts.scored, {t: facts.rows.get(t, 0) for t in ("decisions", "scores", "embeddings")}
    wanted = {
        "decisions": facts.processed,
        "scores": scored * len(facts.expected.policy.active_rules),
        "embeddings": max(found["embeddings"], scored),  # one for each frame
    }
    text = f"{found['decisions']:,} decisions, {found['scores']:,} scores, {found['embeddings']:,} embeddings"
    allowed = f"{wanted['decisions']:,} decisions, {wanted['scores']:,} scores, {scored:,} or more embeddings"
    return equal("rows_counted", "table", {t: (found[t], wanted[t]) for t in found}, Words(text, allowed))


def shards_complete(facts: RunFacts, *_: object) -> Question:
    """What was planned is staged."""
    planned, staged = facts.planned_shards, facts.staged_shards
    strange = len(staged - planned)
    found = f"{len(staged & planned):,} of {len(planned):,} planned shards are staged"
    found += f", and {strange:,} that were not planned" if strange else ""
    odd = {shard: (int(shard in staged), int(shard in planned)) for shard in sorted(planned ^ staged)}
    words = Words(found, "all of them, and no others")
    return equal("shards_complete", "shard", odd or {"all": (len(staged), len(planned))}, words)


def empty_run(facts: RunFacts, limits: QualityLimits, _: object) -> Question:
    """A run that lists nothing, or scores nothing, is a mistake that looks like peace."""
    check = limits.checks.empty_run
    nothing = facts.listed == 0 and not facts.may_be_empty
    useless = facts.processed >= check.at_least and facts.counts.scored == 0
    found = f"{facts.listed:,} listed, {facts.processed:,} processed, {facts.counts.scored:,} scored"
    words = Words(found, f"some listed, and some scored if {check.at_least:,} or more are processed", _error_uris(facts))
    asked = holds("empty_run", "not_empty", "something was listed, and something could be scored")
    return _one(facts, "not_empty", not (nothing or useless), asked, words)


def error_rate(facts: RunFacts, limits: QualityLimits, _: object) -> Question:
    """Storage that fails and uploads that break show themselves here."""
    check, errors, total = limits.checks.error_rate, facts.counts.errors, facts.processed
    found = f"{percent(errors, total)} ({errors:,} of {total:,} objects)" + (
        f": {most(facts.counts.errored)}" if errors else ""
    )
    words = Words(found, f"{percent(check.limit)}, or fewer than {check.at_least:,} errors", _error_uris(facts))
    asked = at_most("error_rate", "error_rate", check.limit, "the share of objects that could not be scored")
    return _one(facts, "error_rate", errors / total if errors >= check.at_least else NAN, asked, words)


def flood(facts: RunFacts, limits: QualityLimits, _: object) -> Question:
    """The circuit breaker: a mistake must not take down most of a shop."""
    check, blocked, scored = limits.checks.flood, facts.counts.blocked, facts.counts.scored
    found = f"{percent(blocked, scored)} ({blocked:,} of {scored:,} images)"
    found += f"; rules that flag most: {most(facts.counts.flagged)}" if blocked else ""
    judged = scored >= check.at_least
    top = [e.uri for rule in facts.aggregates.rules.values() for e in rule.examples if e.action == Action.BLOCK]
    words = Words(found if judged else too_few(scored, check.at_least), percent(check.limit), tuple(dict.fromkeys(top)))
    asked = at_most("flood", "blocked_share", check.limit, "the share of scored images that are blocked")
    return _one(facts, "blocked_share", blocked / scored if judged else NAN, asked, words)


def review_flood(facts: RunFacts, limits: QualityLimits, _: object) -> Question:
    """A threshold of 0 sends everything to people, who then see nothing."""
    check, review, scored = limits.checks.review_flood, facts.counts.review, facts.counts.scored
    found = f"{percent(review, scored)} ({review:,} of {scored:,} images)"
    found += f"; rules that flag most: {most(facts.counts.flagged)}" if review else ""
    judged = scored >= check.at_least
    top = [e.uri for rule in facts.aggregates.rules.values() for e in rule.examples if e.action == Action.REVIEW]
    words = Words(found if judged else too_few(scored, check.at_least), percent(check.limit), tuple(dict.fromkeys(top)))
    asked = at_most("review_flood", "review_share", check.limit, "the share of scored images that are sent to people")
    return _one(facts, "review_share", review / scored if judged else NAN, asked, words)


def list_flood(facts: RunFacts, limits: QualityLimits, _: object) -> Question:
    """One entry that matches much is rather a bad entry, such as a logo, than so many known images."""
    check, total = limits.checks.list_flood, facts.processed
    counts = {(name, entry): count for name, entries in facts.aggregates.entries.items() for entry, count in entries.items()}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    found = some([f"{name} {entry[:16]}: {percent(count, total)} ({count:,} images)" for (name, entry), count in ranked])
    words = Words(found or "no image is on a list", f"{percent(check.limit)}, or fewer than {check.at_least:,} images")
    asked = at_most("list_flood", "share", check.limit, "the share of processed images that one entry of a list matches")
    shares = {
        f"{name} {entry}": count / total if count >= check.at_least else NAN for (name, entry), count in ranked[:_ENTRIES]
    }
    frame = pd.DataFrame({"entry": list(shares) or ["none"], "share": list(shares.values()) or [NAN]})
    return Question(frame, "entry", (asked,), words)


_ENTRIES = 100
"""Entries asked about: those with the most matches."""


def _one(facts: RunFacts, column: str, value: float, asked: Expectation, words: Words) -> Question:
    return Question(pd.DataFrame({"run": [facts.expected.run_id], column: [value]}), "run", (asked,), words)


def _error_uris(facts: RunFacts) -> tuple[str, ...]:
    return tuple(example.uri for examples in facts.aggregates.errors.values() for example in examples)
