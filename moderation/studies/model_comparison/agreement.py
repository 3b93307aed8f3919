"""How far two models agree. Pure."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from moderation.policy.decision import ACTIONS
from moderation.studies.model_comparison.comparison_result import Agreement


def agreement(a: NDArray[np.int8], b: NDArray[np.int8]) -> Agreement:
    """Of two arrays of actions [N], indexes into `ACTIONS`, N above 0. Kappa is that of Cohen (1960), without weights."""
    table = np.zeros((len(ACTIONS), len(ACTIONS)), np.int64)
    np.add.at(table, (a, b), 1)
    images, same = len(a), int(np.trace(table))
    by_chance = int(table.sum(axis=1) @ table.sum(axis=0))
    kappa = (images * same - by_chance) / (images**2 - by_chance) if by_chance < images**2 else None
    return Agreement(share=same / images, kappa=kappa)


def rank_correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    """Spearman's, of scores [N]; None where all scores of one side are the same, or there is only one."""
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return None
    return float(stats.spearmanr(a, b).statistic)
