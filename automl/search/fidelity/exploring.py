"""Other values for a copy in a population, of those numbers that may change while it trains.

    a number              times 0.8 or 1.2, inside its range; a quarter of them is drawn anew.
                          Of one between 0.5 and 1, such as b2, that which it lacks to 1 is meant
    a choice of numbers   the next one up or down
Source: Jaderberg et al. 2017, arXiv:1711.09846.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from automl.recipe import changeable
from automl.search.columns import ordered
from automl.space.ranges import Choice, Float, Value
from automl.space.tree import Dimension, Point, Space

_FACTORS = (0.8, 1.2)
_ANEW = 0.25
_TRIES = 8  # until something differs: at the edge of a range it may not


class Explorer(Protocol):
    """Which values a copy goes on with."""

    def learn(self, point: Point, step: int, before: float, loss: float) -> None:
        """With these values, an interval from `step` on brought a member from one loss to another.

        Where several losses count both are `Loss`es.
        """

    def explore(self, point: Point, step: int, others: Sequence[Point]) -> dict[str, Value]:
        """Those of the point's numbers that change, from `step` on; {}: none can.

        `others` are the values of members that train from `step` on already.
        """


def movable(space: Space, point: Point) -> list[Dimension]:
    """The dimensions whose numbers may change while a network trains."""
    found = []
    for d in space:
        if d.name not in point or not changeable(d.name, point[d.name]):
            continue
        if isinstance(d.range, Choice):
            options = d.range.options
            several = len(options) > 1 and all(isinstance(o, float) for o in options)
            moves = several and ordered(d.range)
        else:
            moves = isinstance(d.range, Float) and d.range.low < d.range.high
        if moves:
            found.append(d)
    return found


class Perturbing:
    """The explorer of population based training."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng([seed, 12])

    def learn(self, point: Point, step: int, before: float, loss: float) -> None:
        pass

    def explore(self, point: Point, step: int, others: Sequence[Point]) -> dict[str, Value]:
        dimensions = movable(self._space, point)
        for _ in range(_TRIES if dimensions else 0):
            found = {d.name: self._moved(d, point[d.name]) for d in dimensions}
            changed = {n: v for n, v in found.items() if v != point[n]}
            if changed:
                return changed
        return {}

    def _moved(self, d: Dimension, value: Value) -> Value:
        up, anew, place = self._rng.random(3)
        if isinstance(d.range, Choice):
            at = d.range.options.index(value) + (1 if up < 0.5 else -1)
            return d.range.options[min(max(at, 0), len(d.range.options) - 1)]
        if anew < _ANEW:
            return d.range.decode(float(place))
        assert isinstance(value, float) and isinstance(d.range, Float)
        factor = _FACTORS[int(up < 0.5)]
        near_one = d.range.low >= 0.5 and d.range.high <= 1.0  # what it leaves of 1 is what counts
        moved = float(f"{1 - (1 - value) * factor if near_one else value * factor:.6g}")
        return min(max(moved, d.range.low), d.range.high)
