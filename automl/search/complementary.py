"""Choose few points that complement each other, from what is known of many on several tasks.

    next = argmin_i  mean_t  min(reached_t, regret_it)      reached_t: the best of those chosen

The first is the best on average, the second helps most where the first fails, and so on. The
mean falls with diminishing returns, so greedy choice is within 1 - 1/e of the best set.
Sources: Nemhauser et al. 1978; Feurer et al. 2020, arXiv:2007.04074 (Auto-sklearn 2.0).
"""

from __future__ import annotations

import numpy as np


def complementary(regrets: np.ndarray, count: int) -> list[int]:
    """Rows of `regrets` [points, tasks], at most `count`, the first best; none that gains nothing.

    Regrets are to be comparable between tasks. Equal gains: the earlier row.

    >>> complementary(np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]]), 3)
    [1, 0, 2]
    """
    reached = np.full(regrets.shape[1], np.inf)
    chosen: list[int] = []
    while len(chosen) < min(count, len(regrets)):
        best = int(np.minimum(reached, regrets).mean(axis=1).argmin())
        with_it = np.minimum(reached, regrets[best])
        if chosen and with_it.mean() >= reached.mean():
            break
        chosen.append(best)
        reached = with_it
    return chosen
