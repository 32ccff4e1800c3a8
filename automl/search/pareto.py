"""Who beats whom when several losses count: fronts, crowding, and one order of all.

    a dominates b     no loss of a is larger than b's, and one is smaller
    front 0           whom nobody dominates; front k: whom only fronts before k dominate
    crowding          of a point in its front: sum over losses of (next - previous) / range;
                      infinite at the ends
    order             who keeps the constraints first, by front, then the less crowded;
                      then the others by how far they break them

With two losses the fronts come from one sort (O(n log n)), else from all pairs (O(m n^2)).
Sources: Deb et al. 2002 (NSGA-II; its constrained domination); Jensen 2003 for two losses.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from automl.search.hypervolume import widest

_ROUNDING = 1e-9  # of scaled losses


class Loss(float):
    """One number for whoever wants one, which remembers the losses that it was made of.

    `violation`: how far constraints are broken, 0 when they are kept.
    """

    __slots__ = ("losses", "violation")
    losses: tuple[float, ...]
    violation: float

    def __new__(cls, whole: float, losses: Sequence[float], violation: float = 0.0) -> Loss:
        made = super().__new__(cls, whole)
        made.losses, made.violation = tuple(losses), violation
        return made


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether losses `a` are nowhere worse than `b`, and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def fronts(losses: np.ndarray) -> np.ndarray:
    """The front [n] of each row of `losses` [n, m], 0 the best; equal rows share theirs."""
    if not len(losses):
        return np.zeros(0, dtype=int)
    rows, place = np.unique(losses, axis=0, return_inverse=True)
    if rows.shape[1] == 1:
        found = np.arange(len(rows))
    else:
        found = _fronts_of_two(rows) if rows.shape[1] == 2 else _fronts_of_many(rows)
    out: np.ndarray = found[place.reshape(-1)]
    return out


def _fronts_of_two(rows: np.ndarray) -> np.ndarray:
    """`rows` sorted and all different: a front dominates what its last row's second loss does."""
    lasts: list[float] = []
    found = np.empty(len(rows), dtype=int)
    for i, second in enumerate(rows[:, 1].tolist()):
        found[i] = k = bisect_right(lasts, second)
        lasts[k : k + 1] = [second]
    return found


def _fronts_of_many(rows: np.ndarray) -> np.ndarray:
    beats = np.asarray((rows[:, None, :] <= rows[None, :, :]).all(axis=2))
    np.fill_diagonal(beats, val=False)
    above = beats.sum(axis=0)  # rows that dominate it and have no front yet
    found = np.full(len(rows), -1)
    k = 0
    while (found < 0).any():
        now = (above == 0) & (found < 0)
        found[now] = k
        above = above - beats[now].sum(axis=0)
        k += 1
    return found


def crowding(losses: np.ndarray) -> np.ndarray:
    """How much room [n] each row of one front [n, m] has; infinite for the best of each loss."""
    n, m = losses.shape
    room = np.zeros(n)
    for j in range(m):
        order = np.argsort(losses[:, j], kind="stable")
        sorted_ = losses[order, j]
        span = sorted_[-1] - sorted_[0]
        room[order[0]] = room[order[-1]] = math.inf
        if span > 0 and n > 2:
            room[order[1:-1]] += (sorted_[2:] - sorted_[:-2]) / span
    return room


def order(losses: Sequence[Sequence[float]], violations: Sequence[float]) -> list[int]:
    """Indices from the best to the worst; equal ones in the order in which they stand."""
    keeps = [i for i, v in enumerate(violations) if v <= 0]
    breaks = [i for i, v in enumerate(violations) if not v <= 0]
    ranked: list[int] = []
    if keeps:
        rows = np.array([losses[i] for i in keeps], dtype=float)
        front = fronts(rows)
        room = np.zeros(len(rows))
        for k in range(int(front.max()) + 1):
            here = np.flatnonzero(front == k)
            room[here] = crowding(rows[here])
        ranked = [keeps[i] for i in np.lexsort((np.arange(len(rows)), -room, front)).tolist()]
    return ranked + sorted(breaks, key=lambda i: (violations[i], i))


def elite(losses: Sequence[Sequence[float]], violations: Sequence[float], count: int) -> list[int]:
    """Indices of the best `count`, in no order: whole fronts as long as they fit, of the next one
    those that together dominate most; then whoever breaks the constraints least."""
    keeps = [i for i, v in enumerate(violations) if v <= 0]
    if len(keeps) <= count:
        breaks = [i for i, v in enumerate(violations) if not v <= 0]
        return keeps + sorted(breaks, key=lambda i: (violations[i], i))[: count - len(keeps)]
    rows = np.array([losses[i] for i in keeps], dtype=float)
    front = fronts(rows)
    cut = np.sort(front)[count]
    whole, parted = np.flatnonzero(front < cut).tolist(), np.flatnonzero(front == cut).tolist()
    some = [parted[i] for i in widest(rows[parted], count - len(whole))]
    return [keeps[i] for i in whole + some]


def front_of(losses: Sequence[Sequence[float]], violations: Sequence[float]) -> list[int]:
    """Indices of those that nobody dominates and that keep the constraints, by the first loss."""
    keeps = [i for i, v in enumerate(violations) if v <= 0]
    if not keeps:
        return []
    front = fronts(np.array([losses[i] for i in keeps], dtype=float))
    best = [i for i, k in zip(keeps, front.tolist(), strict=True) if k == 0]
    return sorted(best, key=lambda i: (tuple(losses[i]), i))


def knee(losses: Sequence[Sequence[float]]) -> int | None:
    """The row of a front furthest beyond the plane through its extreme rows, towards the optimum;
    None where no row is beyond it: there nothing on the way costs less than it brings. Nor is one
    of two rows a compromise.

    Losses are scaled to 0..1 over the front, so the plane of two losses is their sum = 1. Of more
    losses it is the plane of equal weights through the middle of the extreme rows: they need not
    span one, and a plane tilted by one of them would weigh the losses unequally. Losses that are
    equal in all rows do not count; of equal rows the first.
    Source: Das 1999, Structural Optimization 18; as the smallest sum of scaled losses Chiu et al.
    2016, arXiv:1705.01705.
    """
    rows = np.array(losses, dtype=float)
    if len(np.unique(rows, axis=0)) < 3:
        return None
    rows = rows[:, np.ptp(rows, axis=0) > 0]
    scaled = (rows - rows.min(axis=0)) / np.ptp(rows, axis=0)
    sums = scaled.sum(axis=1)
    plane = np.mean([sums[column == 0].min() for column in scaled.T])
    best = int(sums.argmin())
    return best if sums[best] < plane - _ROUNDING else None
