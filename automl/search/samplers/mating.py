"""Children of two parents on a tree of conditions: crossover, then mutation, down the tree.

    both parents have it   a number: with probability 1/2 simulated binary crossover,
                           c = ((1 + b) x + (1 - b) y) / 2, b from u uniform with index 2;
                           a choice: one of the two parents'
    one of them has it     that one's value
    neither                drawn: a choice above it is new
    mutation               each with probability 1 / (open dimensions): a number takes a polynomial
                           step (index 2), a choice another option

All on each dimension's own scale in [0, 1]. The indices are far below the usual 15 and 20, which
are for tens of thousands of trials: a search of hundreds cannot go in such small steps. A child
equal to a trial that was begun is made again.
Source: Deb and Agrawal 1995 (SBX); Deb and Goyal 1996 (polynomial mutation).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from automl.search.columns import ordered
from automl.space.ranges import Choice, Range, Value
from automl.space.tree import Point, Space

_CROSS, _MUTATE = 2.0, 2.0  # indices: the larger, the nearer to the parents
_DRAWS = 20  # before a point is taken that was tried already


class Mating:
    """Makes children on `space`, remembers all points that were begun."""

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng
        self._seen: set[tuple[tuple[str, Value], ...]] = set()

    def note(self, point: Point) -> None:
        """`point` was begun."""
        self._seen.add(tuple(point.items()))

    def fresh(self, fixed: Point) -> dict[str, Value]:
        """A point drawn at random that is new, if one is found."""
        for _ in range(_DRAWS):
            point = self._space.sample(self._rng, fixed)
            if tuple(point.items()) not in self._seen:
                break
        return dict(point)

    def child(self, a: Point, b: Point, fixed: Point) -> dict[str, Value]:
        """A child of two points that is new, if one is found; `fixed` names are kept."""
        rate = 1 / max(len(a), 1)
        for _ in range(_DRAWS):
            point = self._down(a, b, fixed, rate)
            if tuple(point.items()) not in self._seen:
                break
            rate = min(2 * rate, 1.0)
        return point

    def _down(self, a: Point, b: Point, fixed: Point, rate: float) -> dict[str, Value]:
        point: dict[str, Value] = {}
        for d in self._space:
            if not d.active(point):
                continue
            if d.name in fixed:
                point[d.name] = fixed[d.name]
                continue
            value = self._crossed(d.range, d.name, a, b)
            if self._rng.random() < rate:
                value = self._mutated(d.range, value)
            point[d.name] = value
        return point

    def _crossed(self, range_: Range, name: str, a: Point, b: Point) -> Value:
        have: list[Mapping[str, Value]] = [p for p in (a, b) if name in p]
        if not have:
            return range_.decode(float(self._rng.random()))
        if len(have) == 1 or have[0][name] == have[1][name]:
            return have[0][name]
        first, second = (p[name] for p in have)
        if _nominal(range_) or self._rng.random() < 0.5:
            return first if self._rng.random() < 0.5 else second
        x, y = range_.encode(first), range_.encode(second)
        u = self._rng.random()
        spread = (2 * u if u < 0.5 else 0.5 / (1 - u)) ** (1 / (_CROSS + 1))
        place = ((1 + spread) * x + (1 - spread) * y) / 2
        return range_.decode(float(np.clip(place, 0.0, 1.0)))

    def _mutated(self, range_: Range, value: Value) -> Value:
        if isinstance(range_, Choice) and not ordered(range_):
            others = [o for o in range_.options if o != value] or [value]
            return others[int(self._rng.integers(len(others)))]
        x, u = range_.encode(value), self._rng.random()
        power = 1 / (_MUTATE + 1)
        if u < 0.5:
            step = (2 * u + (1 - 2 * u) * (1 - x) ** (_MUTATE + 1)) ** power - 1
        else:
            step = 1 - (2 * (1 - u) + (2 * u - 1) * x ** (_MUTATE + 1)) ** power
        return range_.decode(float(np.clip(x + step, 0.0, 1.0)))


def _nominal(range_: Range) -> bool:
    return isinstance(range_, Choice) and not ordered(range_)
