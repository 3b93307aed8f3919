"""What the tests of tuning share: labels whose truth is known, a results folder made of scores, and a policy for it."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, ndtr
from vector_results import Image, publish_vectors

from moderation.policy_files.loading import parse_policy
from moderation.storage import Store
from moderation.studies.tuning.samples import Sample, as_found, at_prevalence, weighted

POLICY_TEXT = """\
# Kept by trust and safety.
policy: shop
version: "1"
model: {name: demo}
rules:
  - id: firearms   # real ones
    prompts: [a handgun]
    score: similarity
    review: 0.50   # agreed in May
    block: 0.90
  - {id: nudity, prompts: [a nude], score: similarity, review: 0.5, block: 0.95}
  - {id: beer, mode: "off", prompts: [a beer], score: similarity, review: 0.5}
"""


@dataclass(frozen=True)
class World:
    """Normally distributed scores, pressed into 0 to 1: positives lie `apart` standard deviations above negatives."""

    apart: float
    prevalence: float

    def scores(self, rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
        return expit((rng.normal(0, 1, len(truth)) + self.apart * truth) / 2).astype(np.float32)

    def recall(self, threshold: float) -> float:
        return float(ndtr(self.apart - 2 * logit(np.float64(np.float32(threshold)))))

    def precision(self, threshold: float) -> float:
        true = self.prevalence * self.recall(threshold)
        return true / (true + (1 - self.prevalence) * World(0, 0).recall(threshold))

    def at_random(self, rng: np.random.Generator, count: int) -> Sample:
        """Labels of images drawn at random."""
        truth = rng.random(count) < self.prevalence
        return as_found(self.scores(rng, truth), truth)

    def balanced(self, rng: np.random.Generator, positives: int, negatives: int) -> Sample:
        """Labels of so many of both kinds; the prevalence is given."""
        truth = np.repeat([True, False], [positives, negatives])
        return at_prevalence(self.scores(rng, truth), truth, self.prevalence)

    def stratified(self, rng: np.random.Generator, population: int, each: int, cuts: Sequence[float]) -> Sample:
        """Labels drawn in equal numbers from strata of the scores, as `moderate policy sample` draws them."""
        truth = rng.random(population) < self.prevalence
        scores = self.scores(rng, truth)
        strata = np.searchsorted(np.array(cuts, np.float32), scores, side="right")
        rows, weights = [], []
        for stratum in range(len(cuts) + 1):
            of_it = np.flatnonzero(strata == stratum)
            drawn = rng.choice(of_it, min(each, len(of_it)), replace=False)
            rows.append(drawn)
            weights.append(np.full(len(drawn), len(of_it) / max(len(drawn), 1)))
        chosen, in_order = np.concatenate(rows), np.sort(scores)

        def above(found: np.ndarray) -> np.ndarray:
            return (population - np.searchsorted(in_order, found, side="right")) / population

        names = [str(stratum) for stratum in strata[chosen]]
        return weighted(scores[chosen], truth[chosen], np.concatenate(weights), names, above)


Draw = Callable[[np.random.Generator], Sample]


def uri(number: int) -> str:
    return f"s3://shop/{number:05}.jpg"


def write_scores(folder: Path, scores: Sequence[Sequence[float]], broken: Sequence[str] = ()) -> Store:
    """Publish a run: image i has these scores for firearms and nudity."""
    output = Store(str(folder))
    policy = parse_policy(POLICY_TEXT)
    images = [Image(uri(i), [list(row)]) for i, row in enumerate(scores)]
    publish_vectors(output, images, policy, POLICY_TEXT, broken=broken)
    return output


def write_labels(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ("uri", "rule", "label")) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path
