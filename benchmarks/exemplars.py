"""Exemplars against prompts, on the demo's renderings: `python -m benchmarks.exemplars` prints the tables of docs/exemplars.md.

The demo model embeds renderings that neither its training nor its evaluation saw. Of each concept that a rule is about, 24
are for testing and 12 to draw exemplars from; of every other concept 4 and 4. Each draw takes exemplars of a rule at random,
and 256 ordinary renderings as background, some of which may show what the rule looks for, as one from an archive may.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.demo import POLICY_FILE
from moderation.demo.training.concepts import load_concepts
from moderation.demo.training.make_images import ARGUABLE, LIVE_RULES, SHADOW_RULES
from moderation.demo.training.render import draw_glyph, find_font, render, rng_for
from moderation.model.open_clip_encoder import OpenClipEncoder
from moderation.policy.compiled import CompiledPolicy, prompt_texts
from moderation.policy.exemplars import nearness
from moderation.policy_files.loading import load_policy
from moderation.scoring.image_scorer import text_head

Floats = NDArray[np.float64]
RULES: Mapping[str, str] = LIVE_RULES | SHADOW_RULES
COUNTS = (1, 2, 5, 10, 20)
BACKGROUND = 256
PRECISION = 0.9
FIRST = 1000
"""Numbers of renderings from here on are used nowhere else."""
RULED, OTHER = (24, 12), (4, 4)
"""Renderings to test and to draw from, of concepts that rules are about and of others."""


def sums(like: Floats, others: Floats, beta: float) -> Floats:
    """Tip-Adapter (Zhang et al. 2022): sums of exp(-beta(1 - cosine)); the logarithm of their ratio."""
    return _log_sum(beta * like) - _log_sum(beta * others)


def nearest(like: Floats, others: Floats) -> Floats:
    """The nearest of both."""
    found: Floats = like.max(axis=0) - others.max(axis=0)
    return found


def several(like: Floats, others: Floats, count: int) -> Floats:
    """The nearest liked one and the mean of the nearest others."""
    found: Floats = like.max(axis=0) - np.sort(others, axis=0)[-count:].mean(axis=0)
    return found


def ours(like: Floats, others: Floats) -> Floats:
    """What the program does."""
    return nearness(like, others[:0], others)


FORMULAS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "this program: sums, β 20, without the nearest 2 %": ours,
    "nearest to nearest": nearest,
    "nearest to the mean of 5": partial(several, count=5),
    "sums, β 10": partial(sums, beta=10.0),
    "sums, β 20": partial(sums, beta=20.0),
}


@dataclass(frozen=True)
class Renderings:
    """Embeddings [N, D] of renderings, with the number of the concept and of the rendering of each [N]."""

    vectors: NDArray[np.float16]
    concept: NDArray[np.int64]
    copy: NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """What is tested, and what is drawn from."""

    tested: NDArray[np.float16]
    concept: NDArray[np.int64]
    pool: Mapping[int, Floats]
    members: Mapping[str, tuple[int, ...]]
    """concepts of each rule"""
    ordinary: tuple[int, ...]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cache", type=Path, help="a file that keeps the embeddings")
    asked = parser.parse_args()
    world = _world(_renderings(asked.cache))
    prompts = _prompts(world)
    print(f"{len(world.tested):,} renderings tested, {asked.draws} draws\n")
    _by_count(world, prompts, asked.draws)
    _by_formula(world, asked.draws)
    _by_violations(world, asked.draws)


def _by_count(world: World, prompts: Mapping[str, tuple[float, float, int]], draws: int) -> None:
    print(f"| rule | share | prompts | {_header()} |")
    print("|---" * (3 + len(COUNTS)) + "|")
    by_rule: dict[str, list[list[tuple[float, float]]]] = {
        rule: [_drawn(world, rule, count, draws, ours) for count in COUNTS] for rule in RULES
    }
    for rule, cells in by_rule.items():
        precision, recall, flagged = prompts[rule]
        first = f"| `{rule}` | {flagged / len(world.tested):.1%} | {precision:.2f}, {recall:.2f} |"
        print(first, " | ".join(map(_cell, cells)), "|")
    together = [[one for rule in RULES for one in by_rule[rule][at]] for at in range(len(COUNTS))]
    mean = np.mean([prompts[rule][:2] for rule in RULES], axis=0)
    print(f"| all five | | {mean[0]:.2f}, {mean[1]:.2f} | {' | '.join(map(_cell, together))} |\n")


def _by_formula(world: World, draws: int) -> None:
    print(f"| formula | {_header()} |")
    print("|---" * (1 + len(COUNTS)) + "|")
    for name, formula in FORMULAS.items():
        cells = [[one for rule in RULES for one in _drawn(world, rule, count, draws, formula)] for count in COUNTS]
        print(f"| {name} | {' | '.join(f'{np.mean(cell, axis=0)[0]:.3f}' for cell in cells)} |")
    print()


def _by_violations(world: World, draws: int) -> None:
    wrong = (0, 1, 3, 8)
    print(f"| formula, 5 exemplars | {' | '.join(f'{count} of {BACKGROUND}' for count in wrong)} |")
    print("|---" * (1 + len(wrong)) + "|")
    for name, formula in FORMULAS.items():
        cells = [[one for rule in RULES for one in _drawn(world, rule, 5, draws, formula, count)] for count in wrong]
        print(f"| {name} | {' | '.join(f'{np.mean(cell, axis=0)[0]:.3f}' for cell in cells)} |")


def _header() -> str:
    return " | ".join(f"{count} exemplar{'s' * (count > 1)}" for count in COUNTS)


def _drawn(
    world: World, rule: str, count: int, draws: int, formula: Callable[[Floats, Floats], Floats], wrong: int = 0
) -> list[tuple[float, float]]:
    """Average precision and recall of a formula for each draw of exemplars and background."""
    truth = np.isin(world.concept, world.members[rule])
    tested = world.tested.astype(np.float64)
    found = []
    for draw in range(draws):
        random = np.random.default_rng([draw, count, list(RULES).index(rule)])
        like = _some(world, world.members[rule], count, random)
        others = _some(world, world.ordinary, BACKGROUND - wrong, random)
        if wrong:
            others = np.concatenate([others, _some(world, world.members[rule], wrong, random)])
        found.append(_quality(formula(like @ tested.T, others @ tested.T), truth))
    return found


def _some(world: World, concepts: tuple[int, ...], count: int, random: np.random.Generator) -> Floats:
    """Different renderings [count, D], their concepts as even as can be."""
    order = np.concatenate([random.permutation(concepts) for _ in range(-(-count // len(concepts)))])[:count]
    taken: dict[int, Iterator[int]] = {}
    rows = []
    for concept in order.tolist():
        copies = taken.setdefault(concept, iter(random.permutation(len(world.pool[concept])).tolist()))
        rows.append(world.pool[concept][next(copies, 0)])
    return np.array(rows)


def _quality(score: Floats, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Average precision, and the highest recall at which precision reaches `PRECISION`."""
    right = truth[np.argsort(-score, kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    enough = np.flatnonzero(precision >= PRECISION)
    recall = np.cumsum(right)[enough[-1]] / right.sum() if len(enough) else 0.0
    return float((precision * right).sum() / right.sum()), float(recall)


def _cell(found: list[tuple[float, float]]) -> str:
    (precision, recall), spread = np.mean(found, axis=0), np.std(found, axis=0)
    return f"{precision:.2f} ±{spread[0]:.2f}, {recall:.2f} ±{spread[1]:.2f}"


def _prompts(world: World) -> dict[str, tuple[float, float, int]]:
    """Average precision and recall of the demo policy's rules, and how many images each should flag."""
    policy = load_policy(POLICY_FILE)
    encoder = OpenClipEncoder.of(policy.model, device="cpu")
    rules = tuple(rule for rule in policy.rules if rule.id in RULES)
    bare = policy.model_copy(update={"rules": rules, "background": (), "lists": ()})
    compiled = CompiledPolicy.build(bare.with_assets(type(policy.assets)()), text_head(encoder, prompt_texts(bare)))
    scores = compiled.scores(world.tested).astype(np.float64)
    found = {}
    for at, rule in enumerate(compiled.rules):
        truth = np.isin(world.concept, world.members[rule.id])
        found[rule.id] = (*_quality(scores[:, at], truth), int(truth.sum()))
    return found


def _world(found: Renderings) -> World:
    glyphs = [concept.glyph for concept in load_concepts()]
    members = {rule: tuple(i for i, glyph in enumerate(glyphs) if glyph in those) for rule, those in RULES.items()}
    ruled = {i for those in members.values() for i in those}
    tests = np.array([RULED[0] if i in ruled else OTHER[0] for i in range(len(glyphs))])
    arguable = np.array([glyph in ARGUABLE for glyph in glyphs])
    test = found.copy < tests[found.concept]
    pool = {i: found.vectors[~test & (found.concept == i)].astype(np.float64) for i in range(len(glyphs))}
    kept = test & ~arguable[found.concept]
    ordinary = tuple(i for i in range(len(glyphs)) if i not in ruled and not arguable[i])
    return World(found.vectors[kept], found.concept[kept], pool, members, ordinary)


def _renderings(cache: Path | None) -> Renderings:
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as kept:
            return Renderings(kept["v"], kept["jobs"][:, 0], kept["jobs"][:, 1])
    encoder = OpenClipEncoder.of(load_policy(POLICY_FILE).model, device="cpu")
    concepts, font = load_concepts(), find_font()
    glyphs = [draw_glyph(concept.glyph, font) for concept in concepts]
    ruled = set("".join(RULES.values()))
    jobs = [
        (number, copy)
        for number, concept in enumerate(concepts)
        for copy in range(sum(RULED if concept.glyph in ruled else OTHER))
    ]

    def pixels(job: tuple[int, int]) -> NDArray[np.uint8]:
        glyph = glyphs[job[0]]
        if glyph is None:
            raise SystemExit(f"the font has no picture for {concepts[job[0]].glyph!r}")
        random = rng_for("evaluate", job[0], FIRST + job[1])
        width, height = (int(side) for side in random.integers(160, 481, 2))
        return encoder.preprocessing(render(glyph, random, (width, height)))

    vectors = []
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(jobs), 512):
            batch: Iterable[NDArray[np.uint8]] = threads.map(pixels, jobs[start : start + 512])
            vectors.append(encoder.encode_images(np.stack(list(batch))).astype(np.float16))
    table = np.array(jobs)
    if cache is not None:
        np.savez(cache, v=np.concatenate(vectors), jobs=table)
    return Renderings(np.concatenate(vectors), table[:, 0], table[:, 1])


def _log_sum(logits: Floats) -> Floats:
    highest = logits.max(axis=0)
    found: Floats = highest + np.log(np.exp(logits - highest).sum(axis=0))
    return found


if __name__ == "__main__":
    main()
