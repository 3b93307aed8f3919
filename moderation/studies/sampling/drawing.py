"""Drawing a sample from what published runs store."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moderation.common.safe_text import visible
from moderation.errors import OutputError, PolicyError, SettingsError
from moderation.policy.compiled import CompiledPolicy
from moderation.policy.consistency import known
from moderation.policy.schema import Mode, Policy, Rule
from moderation.results import showing
from moderation.results.archive import Archive
from moderation.results.stored_images import StoredImages
from moderation.scoring.judging import best_frames
from moderation.studies.sampling.lots import Bounds, Kept, Wanted, kept, lowest, nothing, places, share
from moderation.studies.sampling.sample_result import STRATA, Sample, SampledImage, Stratum, StratumName

MOST = 5_000
"""Images drawn at most: more make no page that a browser shows."""


def rule_to_sample(policy: Policy, rule_id: str) -> Rule:
    """The rule of that name. Raises `PolicyError` if there is none, or it is off."""
    rules = {rule.id: rule for rule in policy.rules}
    if rule_id not in rules:
        raise PolicyError(f"the policy {policy.policy} has no rule {rule_id!r}: {known('rules', rule_id, rules)}")
    if rules[rule_id].mode is Mode.OFF:
        raise PolicyError(f"the rule {rule_id!r} is off, so it has no scores: set `mode: shadow` to try it")
    return rules[rule_id]


def draw(
    archive: Archive, compiled: CompiledPolicy, rule: Rule, count: int, seed: int = 0, threads: int | None = None
) -> Sample:
    """Draw images for a rule, from those it flags, those just below its lowest threshold, and all others.

    Images on a restricted hash list, of the run that decided about them or of the policy, are left out: nobody may label them.
    One pass over the embeddings; memory does not grow with the number of images. The same seed gives the same sample.

    Args:
        archive: where the embeddings are.
        compiled: the policy.
        rule: one of `compiled.rules`.
        count: how many images; all, if there are fewer.
        seed: another one gives another sample.
        threads: how many read and score.

    Raises:
        SettingsError: a number that makes no sense, or there is no image with scores.
        OutputError: a file cannot be read, or its rows are not this program's.
    """
    if not len(STRATA) <= count <= MOST:
        raise SettingsError(f"--n {count}: give {len(STRATA)} to {MOST:,}, at least one image for each of {', '.join(STRATA)}")
    wanted = Wanted(drawn=count, closest=count // len(STRATA))
    column = [one.id for one in compiled.rules].index(rule.id)
    bounds = Bounds(compiled.thresholds.lowest[column], compiled.thresholds.near, seed)

    known = compiled.known_images

    def work(images: StoredImages) -> tuple[Kept, int, int]:
        shown = showing.may_show_under(images, known)
        images = images.keep(shown, np.ones(images.errors.num_rows, np.bool_))
        score = compiled.scores(images.vectors)[:, [column]]
        best = best_frames(score, images.starts[:-1], images.starts[1:])[:, 0]
        return (
            kept(images.scored, score[best, 0], images.frames[best], bounds, wanted),
            images.errors.num_rows,
            int((~shown).sum()),
        )

    all_kept, errors, restricted = nothing(), 0, 0
    for found, without, hidden in archive.each(showing.COLUMNS, work, threads, with_hashes=bool(known)):
        all_kept = all_kept.join(found, wanted)
        errors, restricted = errors + without, restricted + hidden
    if not sum(all_kept.counts):
        raise SettingsError(f"there is no image with scores under {archive.output.uri}: {errors:,} could not be scored")
    tables, sizes, nearest = _strata(all_kept, wanted.closest)
    drawn = [lowest(table, number) for table, number in zip(tables, share(sizes, count), strict=True)]
    parts = [list(_images(name, size, table)) for name, size, table in zip(STRATA, sizes, drawn, strict=True)]
    images = [image for part in parts for image in part]
    order = places([image.uri for image in images], seed)
    return Sample(
        policy=compiled.policy,
        rule=rule,
        asked=count,
        seed=seed,
        archive=archive.used,
        strata=tuple(
            Stratum(name, size, table.num_rows, len(part))
            for name, size, table, part in zip(STRATA, sizes, drawn, parts, strict=True)
        ),
        nearest=nearest,
        images=tuple(images[at] for at in np.argsort(order, kind="stable")),
        errors=errors,
        restricted=restricted,
    )


def _strata(found: Kept, closest: int) -> tuple[list[pa.Table], list[int], bool]:
    """Candidates and sizes of the strata, and whether `near` was filled up with the closest images below.

    The images moved there are left out of the rest. What is left is still in the order of its lots, and long enough.
    """
    flagged, near, rest = found.counts
    if near >= closest or not rest:
        return [found.flagged, found.near, found.rest], [flagged, near, rest], False
    moved = found.closest.num_rows - near
    left = found.rest.filter(pc.invert(pc.is_in(found.rest["uri"], found.closest["uri"].combine_chunks())))
    return [found.flagged, found.closest, left], [flagged, found.closest.num_rows, rest - moved], True


def _images(name: StratumName, size: int, drawn: pa.Table) -> Iterator[SampledImage]:
    """The images of one stratum. The first of those with the same bytes has the weight of all."""
    rows = drawn.to_pylist()
    first: dict[tuple[str, float], int] = {}
    same = [first.setdefault((row["sha256"] or row["uri"], row["score"]), number) for number, row in enumerate(rows)]
    for number, row in enumerate(rows):
        if same[number] != number:
            continue
        if "://" not in row["uri"] or not row["uri"].partition("://")[0].isalnum():  # a spreadsheet would run it
            raise OutputError(f"the results contain the URI {visible(row['uri'])!r}, which has no scheme")
        weight = same.count(number) * size / len(rows)
        yield SampledImage(row["uri"], row["etag"], row["frame"], name, weight, row["score"])
