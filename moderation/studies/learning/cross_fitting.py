"""Cross-validation: how strongly to regularise, and the logit of each label by fits that did not see it. Pure."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moderation.studies.learning.labelled_images import LabelledImages
from moderation.studies.learning.regression import STRENGTHS, Line, Numbers, balanced, path

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """What is to be learned."""

    images: LabelledImages
    """N of them"""
    frames: Numbers
    """[F, D] the embeddings of their frames"""
    truth: NDArray[np.bool_]
    """[N]"""
    mass: Numbers
    """[N] the share of all images that each stands for"""
    direction: Numbers | None
    """[D] of the rule's own texts"""
    fold: NDArray[np.int64]
    """[N] in which fold each is"""

    @property
    def count(self) -> int:
        """Of folds."""
        return int(self.fold.max()) + 1

    def logits(self, line: Line) -> Numbers:
        """[N] the highest over an image's frames."""
        return self.images.highest(line(self.frames))

    def shown(self, line: Line | None) -> NDArray[np.int64]:
        """[N] the frame that stands for each image: the one with the highest logit; the first where nothing is known."""
        starts = self.images.starts
        if line is None or len(self.frames) == len(self.truth):
            return starts[:-1]
        values = line(self.frames)
        return np.array([start + int(values[start:end].argmax()) for start, end in pairwise(starts)])

    def fits(self, rows: Rows, strengths: tuple[float, ...] = STRENGTHS) -> list[Line]:
        """Fits to some of the labels. An image of several frames counts as the one that shows most of what is looked for."""
        truth, weights = self.truth[rows], balanced(self.truth[rows], self.mass[rows])
        by_texts = None if self.direction is None else Line(self.direction, 0.0)
        found = path(self.frames[self.shown(by_texts)[rows]], truth, weights, self.direction, strengths)
        if by_texts is not None or len(self.frames) == len(self.truth):
            return found
        return path(self.frames[self.shown(found[len(found) // 2])[rows]], truth, weights, None, strengths)


@dataclass(frozen=True)
class CrossFitted:
    """What cross-validation found."""

    strength: float
    """the one with the lowest loss on labels that were left out"""
    logits: Numbers
    """[N] of each label, by a fit that saw neither it nor its fold"""


def cross_fit(task: Task) -> CrossFitted:
    """Fit every strength without each fold. One strength is chosen for all folds: its logits can be compared among them."""
    losses = np.zeros(len(STRENGTHS))
    logits = np.zeros((len(STRENGTHS), len(task.truth)))
    for fold in range(task.count):
        tested = task.fold == fold
        for at, line in enumerate(task.fits(~tested)):
            logits[at, tested] = task.logits(line)[tested]
            losses[at] += _loss(task, logits[at], tested)
    best = int(losses.argmin())
    return CrossFitted(STRENGTHS[best], logits[best])


def _loss(task: Task, logits: Numbers, rows: Rows) -> float:
    """The log loss of some labels, as parts of the loss of all."""
    margins = np.where(task.truth, 1.0, -1.0)[rows] * logits[rows]
    return float((balanced(task.truth, task.mass)[rows] * np.logaddexp(0.0, -margins)).sum())
