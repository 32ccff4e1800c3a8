"""Several losses as one, so that every sampler of one loss can look for a front.

    scaled    l_i = (loss_i - best_i) / (worst_i - best_i), worst of the front as it is known: a
              hopeless trial must not squeeze all others together, nor a crowd at one end of the
              front stretch the others, as quantiles of all trials did
    weights   w drawn anew for each suggestion from the grid of tenths that sum to 1
    kept      max_i w_i l_i + 0.05 sum_i l_i                      (augmented Chebyshev)
    broken    the worst of those that keep the constraints + 1 + violation, on a log scale

A sampler that proposes under many weights in turn proposes along the whole front, the bent-in parts
of it, too, which a weighted sum never would.
Source: Knowles 2006 (ParEGO), but for the scaling and for constraints.
"""

from __future__ import annotations

import math

import numpy as np

from automl.search.pareto import fronts

_TENTHS = 10
_SUM = 0.05


def draw_weights(rng: np.random.Generator, m: int) -> np.ndarray:
    """Weights [m] in whole tenths that sum to 1, all such equally likely."""
    bars = np.sort(rng.choice(_TENTHS + m - 1, size=m - 1, replace=False))
    parts = np.diff(np.concatenate([[-1], bars, [_TENTHS + m - 1]])) - 1
    weights: np.ndarray = parts / _TENTHS
    return weights


def scalarized(losses: np.ndarray, violations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One loss [n] for each row of `losses` [n, m]; infinite where a row is."""
    finite = np.isfinite(losses).all(axis=1)
    keeps = finite & (violations <= 0)
    known = losses[keeps] if keeps.any() else losses[finite]
    whole = np.full(len(losses), math.inf)
    if not len(known):
        return whole
    low = known.min(axis=0)
    high = known[fronts(known) == 0].max(axis=0)
    high = np.where(high > low, high, known.max(axis=0))
    scaled = (losses[finite] - low) / np.where(high > low, high - low, 1.0)
    whole[finite] = (weights * scaled).max(axis=1) + _SUM * scaled.sum(axis=1)
    broken = finite & (violations > 0)
    worst = whole[keeps].max() if keeps.any() else 0.0
    whole[broken] = worst + 1 + np.log1p(violations[broken])
    return whole
