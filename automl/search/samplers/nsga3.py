"""NSGA-III: fronts whose members spread along given directions instead of by crowding.

    directions   all points of the simplex with coordinates in whole parts of 1 / p; p by the number
                 of losses, so that there are about as many as trials in a population
    scaled       (loss - best of each) / (worst of each in the first front - best)
    belongs to   the direction whose ray passes nearest
    survive      whole fronts while they fit; of the next one whoever belongs to the direction with
                 the fewest survivors, nearest to its ray first
    parent       drawn at random from the survivors, those that keep the constraints before others

Crowding says little with three losses and more, where nearly everybody is in the first front.
Source: Deb and Jain 2014, IEEE TEC 18, without its search for extreme points.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from automl.search.pareto import fronts
from automl.search.samplers.nsga2 import Nsga2Sampler
from automl.space.tree import Point

_DIVISIONS = {1: 1, 2: 19, 3: 5, 4: 3}  # 1, 20, 21, 20 directions
_FEWEST = 20


class Nsga3Sampler(Nsga2Sampler):
    """Evolves a front along reference directions."""

    def _size(self) -> int:
        losses, _ = next(iter(self._told.values()), ((0.0,), 0.0))
        return max(len(directions(len(losses))), _FEWEST)

    def _parents(self) -> list[Point]:
        alive = self._survivors()
        keeps = [t for t in alive if self._told[t][1] <= 0] or alive
        drawn = self._rng.integers(len(keeps), size=2)
        return [self._points[keeps[int(i)]] for i in drawn]

    def _survivors(self) -> list[int]:
        keeps = [t for t, (_, violation) in self._told.items() if violation <= 0]
        breaks = sorted((v, t) for t, (_, v) in self._told.items() if v > 0)
        size = self._size()
        if keeps:
            rows = np.array([self._told[t][0] for t in keeps])
            keeps = [keeps[i] for i in spread(rows, size)]
        return (keeps + [t for _, t in breaks])[:size]


def spread(losses: np.ndarray, size: int) -> list[int]:
    """At most `size` rows of `losses` [n, m]: the best fronts, the last one thinned by niches."""
    front = fronts(losses)
    rays = directions(losses.shape[1])
    low = losses[front == 0].min(axis=0)
    high = losses[front == 0].max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    along = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    apart = np.linalg.norm(scaled[:, None, :] - (scaled @ along.T)[:, :, None] * along, axis=2)
    niche, distance = apart.argmin(axis=1), apart.min(axis=1)
    taken: list[int] = []
    for k in range(int(front.max()) + 1):
        here = np.flatnonzero(front == k).tolist()
        if len(taken) + len(here) > size:
            here = _filled(here, taken, niche, distance, size - len(taken))
        taken += here
        if len(taken) >= size:
            break
    return taken


def _filled(
    here: list[int], taken: list[int], niche: np.ndarray, distance: np.ndarray, count: int
) -> list[int]:
    """`count` of the rows `here`, from the emptiest niches first."""
    filled = np.bincount(niche[taken], minlength=int(niche.max()) + 1) if taken else np.zeros(
        int(niche.max()) + 1, dtype=int
    )  # fmt: skip
    left, chosen = list(here), list[int]()
    while len(chosen) < count:
        best = min(left, key=lambda i: (filled[niche[i]], distance[i], i))
        left.remove(best)
        chosen.append(best)
        filled[niche[best]] += 1
    return chosen


def directions(m: int) -> np.ndarray:
    """Reference directions [n, m] with coordinates that sum to 1."""
    p = _DIVISIONS.get(m, 2)
    return np.array(list(_parts(p, m)), dtype=float) / p


def _parts(total: int, count: int) -> Iterator[tuple[int, ...]]:
    if count == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _parts(total - first, count - 1):
            yield first, *rest
