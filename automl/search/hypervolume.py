"""Hypervolume: how much of the space below a reference point is dominated by some losses.

    two losses     one sweep along the first: sum of (next first - first) * (reference - second)
    three losses   slices along the third between neighbours, each the area of the two others
                   of all points up to there

Exact; O(n log n) for two losses, O(n^2 log n) for three. Points beyond the reference count nothing.
A subset of large volume is chosen by a sample of the space instead, for any number of losses.
Source: Zitzler and Thiele 1998; slices as in While et al. 2006.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SAMPLE = 1000


def hypervolume(losses: np.ndarray, reference: Sequence[float]) -> float:
    """The volume that rows of `losses` [n, m], m <= 3, dominate below `reference` [m].

    Raises:
        ValueError: more than three losses.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), (3.0, 3.0))
    3.0
    """
    point = np.asarray(reference, dtype=float)
    rows = np.asarray(losses, dtype=float).reshape(-1, len(point))
    rows = rows[(rows < point).all(axis=1)]
    if not len(rows):
        return 0.0
    if len(point) == 1:
        return float(point[0] - rows.min())
    if len(point) == 2:
        return _area(rows, point)
    if len(point) > 3:
        raise ValueError(f"hypervolume of {len(point)} losses; two or three are exact here")
    rows = rows[np.argsort(rows[:, 2], kind="stable")]
    heights = np.append(rows[:, 2], point[2])
    return float(
        sum(
            _area(rows[: i + 1, :2], point[:2]) * (heights[i + 1] - heights[i])
            for i in range(len(rows))
            if heights[i + 1] > heights[i]
        )
    )


def widest(losses: np.ndarray, count: int) -> list[int]:
    """Indices of `count` rows of `losses` [n, m] that together dominate much: greedily, each the
    one that adds most to those before.

    Volume is counted on `_SAMPLE` points between the best of each loss and as far again beyond the
    worst, the same ones each time: close behind the worst, the ends would hardly count.

    >>> widest(np.array([[0.0, 1.0], [0.5, 0.4], [0.4, 0.6], [1.0, 0.0]]), 3)
    [1, 0, 3]
    """
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    points = 2.0 * np.random.default_rng(0).random((_SAMPLE, losses.shape[1]))
    left = (scaled[:, None, :] <= points).all(axis=2)  # [n, points] that nobody has yet
    chosen: list[int] = []
    free = np.ones(len(losses), dtype=bool)
    for _ in range(min(count, len(losses))):
        best = int(np.where(free, left.sum(axis=1), -1).argmax())
        chosen.append(best)
        free[best] = False
        left = left & ~left[best]
    return chosen


def _area(rows: np.ndarray, point: np.ndarray) -> float:
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    lowest = np.minimum.accumulate(rows[:, 1])
    ends = np.append(rows[1:, 0], point[0])
    return float(((ends - rows[:, 0]) * (point[1] - lowest)).sum())
