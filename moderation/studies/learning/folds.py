"""Parts of the labels for cross-validation. Near-duplicates never stand on both sides. Pure."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from moderation.results.example_images import Pictures
from moderation.studies.learning.labelled_images import LabelledImages

ALIKE = 0.985
"""Images whose embeddings have this cosine or more are one picture, cropped or compressed a little."""
MOST_FOLDS = 10
_SEED = 20261128
_BLOCK = 256
Folds = NDArray[np.int64]


def groups(images: LabelledImages, vectors: NDArray[np.float64]) -> Folds:
    """[N] which group of near-duplicates each image belongs to: the same bytes, a PDQ or an embedding that differs little.

    Args:
        images: N of them.
        vectors: [N, D] the unit embedding that stands for each.
    """
    count = len(images)
    found = np.arange(count)
    pictures = Pictures(images.decisions)
    for start in range(0, count, _BLOCK):
        alike = vectors[start : start + _BLOCK] @ vectors.T >= ALIKE
        for row in range(len(alike)):
            alike[row] |= pictures.same_as(start + row)
        rows, others = np.nonzero(alike)
        pairs = np.unique(found[rows + start] * count + found[others])
        graph = coo_matrix((np.ones(len(pairs), np.bool_), (pairs // count, pairs % count)), shape=(count, count))
        found = connected_components(graph, directed=False)[1][found]
    return found.astype(np.int64)


def folds(group: Folds, truth: NDArray[np.bool_], most: int = MOST_FOLDS) -> Folds:
    """[N] in which of K folds each label is: whole groups, with about as many positives and negatives in each.

    K is `most`, or as many as there are groups with a positive, or with a negative; less than 2 where there is only one.
    """
    names, place = np.unique(group, return_inverse=True)
    of_kind = np.stack([np.bincount(place[kind], minlength=len(names)) for kind in (truth, ~truth)], axis=1)
    count = min(most, *(of_kind > 0).sum(axis=0).tolist())
    share = of_kind / np.maximum(of_kind.sum(axis=0), 1)
    order = np.random.default_rng(_SEED).permutation(len(names))
    order = order[np.argsort(-share.sum(axis=1)[order], kind="stable")]  # large groups first, while all folds have room
    filled = np.zeros((max(count, 1), 2))
    fold_of = np.zeros(len(names), np.int64)
    for name in order:
        fold_of[name] = int((((filled + share[name]) ** 2).sum(axis=1) - (filled**2).sum(axis=1)).argmin())
        filled[fold_of[name]] += share[name]
    return fold_of[place]
