"""From what a file says to reviews: each row is matched with the results, or reported. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches

from moderation.exchange.known_images import KnownImage
from moderation.exchange.said import ReviewFile, Said, Troubles, short
from moderation.labels.label_file import Remark
from moderation.reviews.appeal import QUEUE as APPEALS_QUEUE
from moderation.reviews.review import Review, ReviewAction, Selection, Source, Verdict, imported_review_id

Key = tuple[str, str | None, str]
"""image, rule, reviewer: of which the newest review counts"""


@dataclass(frozen=True, slots=True)
class Context:
    """What the rows of a file are held against."""

    images: Mapping[int, KnownImage]
    """by the place of a row among those of the file"""
    meanings: Mapping[str, Mapping[str, str]]
    """by policy hash and rule: what it looks for; a policy that cannot be read has no rules"""
    current: Mapping[Key, Review]
    """the reviews of these images that count"""
    ids: frozenset[str]
    """of all reviews of these images"""
    open_appeals: Mapping[str, str]
    """image by open appeal"""
    appeals: frozenset[str]
    """all there are"""
    reviewer: str | None
    """whoever reviewed where the file does not say"""
    now: datetime
    verdicts_only: bool = False
    """whether the reviews answer for rules and decide nothing about images"""


@dataclass(frozen=True, slots=True)
class Judged:
    """The reviews of a file that are new, and everything else that is in it."""

    reviews: tuple[Review, ...]
    known: int
    """rows that the results have already"""
    remarks: tuple[Remark, ...]


def image_key(sha256: str | None, uri: str, etag: str) -> str:
    """What a review belongs to, as `moderation.reviews.current.IMAGE` has it."""
    return sha256 or f"{uri}\n{etag}"


def judge(file: ReviewFile, context: Context) -> Judged:
    """The reviews of a file. Nothing is dropped without a remark that names its rows."""
    troubles, notes = Troubles(), Troubles()
    rows: list[tuple[int, Review]] = []
    rules = frozenset(rule for known in context.meanings.values() for rule in known)
    verdicts_only = context.verdicts_only or file.source is Source.LABEL_SHEET
    for n, said in enumerate(file.said):
        image = context.images.get(n)
        wrong = _wrong(said, image, context, rules)
        if wrong or image is None:
            troubles.add(
                wrong or "the image is not in the results: no published run has a decision about this `uri`", said.line
            )
            continue
        review = _review(said, image, file.source, context)
        if said.sha256 and image.sha256 != said.sha256:
            notes.add("the object has changed since: the review holds for the bytes that were reviewed", said.line)
        if not verdicts_only:
            action = said.action or _implied(said, image)
            if action is None:
                notes.add(
                    "the image keeps its action, since other rules flag it as well: give an `action` to decide about it",
                    said.line,
                )
            review = replace(review, action=action)
        rows.append((said.line, review))
    settled = _settled(rows, troubles)
    fresh, known = [], 0
    for _, review in settled:
        earlier = context.current.get(_key(review))
        if review.review_id in context.ids or (earlier is not None and _same(earlier, review)):
            known += 1
            continue
        fresh.append(review)
    counted = tuple(Remark(remark.message, remark.lines, "counted") for remark in notes.remarks)
    return Judged(tuple(fresh), known, (*troubles.remarks, *counted))


def _wrong(said: Said, image: KnownImage | None, context: Context, rules: frozenset[str]) -> str | None:
    """Why a row cannot be used; None if it can."""
    if image is None:
        return None
    readable = bool(context.meanings.get(image.policy_hash))
    if said.rule is not None and said.rule not in rules and (readable or said.rule not in image.flags | {image.top_rule}):
        close = get_close_matches(said.rule, sorted(rules), n=1)
        hint = f": is {close[0]} meant?" if close else f": the rules are {', '.join(sorted(rules)) or 'unknown'}"
        return f"the rule {short(said.rule)} is in no policy of the results{hint}"
    if said.reviewer is None and context.reviewer is None:
        return "nobody is named: fill in `reviewer`, or give --reviewer"
    if said.decided_at is not None and said.decided_at > context.now + _AHEAD:
        return "`decided_at` is in the future: correct it, since the newest review counts"
    if said.appeal_id is not None and said.appeal_id not in context.appeals:
        return f"the appeal {short(said.appeal_id)} is not known: leave `appeal_id` as it was exported"
    if said.rule is None and (said.verdict, said.action) in _OPPOSED:
        return f"the verdict about the whole image is {said.verdict}, but the action is {said.action}: correct one of them"
    return None


_AHEAD = timedelta(hours=1)
"""How far the clocks of other tools may be ahead."""
_OPPOSED = {(Verdict.FINE, ReviewAction.BLOCK), (Verdict.VIOLATES, ReviewAction.ALLOW)}


def _review(said: Said, image: KnownImage, source: Source, context: Context) -> Review:
    same = said.sha256 is None or said.sha256 == image.sha256
    sample = source is Source.LABEL_SHEET
    sha256 = said.sha256 or image.sha256
    key = image_key(sha256, image.uri, image.etag)
    appeal = said.appeal_id
    if appeal is None and said.queue == APPEALS_QUEUE:
        appeal = next((one for one, about in context.open_appeals.items() if about == key), None)
    meaning = context.meanings.get(image.policy_hash, {}).get(said.rule or "")
    review = Review(
        uri=image.uri if same else said.uri,
        etag=image.etag if same else "",
        sha256=sha256,
        pdq=image.pdq if same else None,
        frame=image.frame if same else None,
        run_id=image.run_id if same else said.run_id,
        policy=image.policy,
        policy_version=image.policy_version,
        policy_hash=image.policy_hash,
        queue=said.queue,
        selection=Selection(
            said.selection or (Selection.APPEAL if appeal else Selection.SAMPLE if sample else Selection.DECISION)
        ),
        weight=said.weight,
        rule=said.rule,
        rule_meaning=meaning if said.rule is not None else None,
        verdict=said.verdict,
        action=None,
        reason=said.reason,
        note=said.note,
        reviewer=said.reviewer or context.reviewer or "",
        opened_at=said.opened_at,
        decided_at=said.decided_at or context.now,
        blind=said.blind,
        source=source,
        appeal_id=appeal,
        machine_action=image.action if same else None,
        machine_rule=image.top_rule if same else None,
        machine_score=image.score if same else None,
        machine_threshold=image.threshold if same else None,
    )
    return replace(review, review_id=imported_review_id(review)) if said.decided_at else review


def _implied(said: Said, image: KnownImage) -> ReviewAction | None:
    """The action where a file gives only a verdict; None if the verdict about a rule does not decide about the image."""
    if said.verdict is Verdict.VIOLATES:
        return ReviewAction.BLOCK
    if said.verdict is Verdict.FINE:
        return ReviewAction.ALLOW if said.rule is None or image.flags <= {said.rule} else None
    return ReviewAction.ESCALATE


def _settled(rows: Sequence[tuple[int, Review]], troubles: Troubles) -> list[tuple[int, Review]]:
    """Rows without those that say something twice, and those that contradict each other."""
    by_key: dict[tuple[Key, datetime], list[tuple[int, Review]]] = {}
    for line, review in rows:
        by_key.setdefault((_key(review), review.decided_at), []).append((line, review))
    kept = []
    for together in by_key.values():
        if len({(review.verdict, review.action) for _, review in together}) > 1:
            for line, _ in together:
                troubles.add("the same person says different things about the same image and rule", line)
            continue
        kept.append(together[0])
        for line, _ in together[1:]:
            troubles.add("repeats an earlier row", line)
    return kept


def _key(review: Review) -> Key:
    return image_key(review.sha256, review.uri, review.etag), review.rule, review.reviewer


def _same(earlier: Review, review: Review) -> bool:
    """Whether the newest review of this person says the same, so that nothing is to be added."""
    if review.decided_at <= earlier.decided_at:
        return False
    return all(getattr(earlier, name) == getattr(review, name) for name in ("verdict", "action", "reason", "note", "appeal_id"))
