"""Points as rows of numbers in which nearness means likeness.

An interval, and a choice between rising numbers, is one column in [0, 1]. Any other choice has one
column an option, 1/sqrt(2) for the one taken: two options are at distance 1. What is not active
stands at its default, so points that both lack a dimension do not differ in it.
"""

from __future__ import annotations

import math

import numpy as np

from automl.space.ranges import Choice, Range
from automl.space.tree import Space


class Columns:
    """The columns of `space`; `owner` [columns] gives the dimension of each."""

    def __init__(self, space: Space) -> None:
        self._space = space
        index = {d.name: i for i, d in enumerate(space)}
        self._default = np.array([d.range.encode(d.range.default) for d in space])
        self._whole = [_steps(d.range) for d in space]
        self._options: list[int] = []  # columns of a nominal choice; 0 for one ordered column
        self._when: list[list[tuple[int, np.ndarray]]] = []
        owner: list[int] = []
        for i, d in enumerate(space):
            nominal = isinstance(d.range, Choice) and not ordered(d.range)
            count = len(d.range.options) if isinstance(d.range, Choice) and nominal else 0
            self._options.append(count)
            owner += [i] * max(count, 1)
            opens = []
            for name, values in d.when:
                range_ = space[name].range
                assert isinstance(range_, Choice)
                opens.append((index[name], np.array([o in values for o in range_.options])))
            self._when.append(opens)
        self.owner = np.array(owner)
        self.nominal = np.array([count > 0 for count in self._options])

    def of(self, units: np.ndarray) -> np.ndarray:
        """Rows [n, columns] of the places `units` [n, dimensions] in the unit cube."""
        n = len(units)
        active = np.ones(units.shape, dtype=bool)
        out: list[np.ndarray] = []
        for i, count in enumerate(self._options):
            for parent, opens in self._when[i]:
                taken = np.minimum((units[:, parent] * len(opens)).astype(int), len(opens) - 1)
                active[:, i] &= active[:, parent] & opens[taken]
            place = np.where(active[:, i], units[:, i], self._default[i])
            if count:
                rows = np.zeros((n, count))
                taken = np.minimum((place * count).astype(int), count - 1)
                rows[np.arange(n), taken] = math.sqrt(0.5)
                out.append(rows)
            else:
                steps = self._whole[i]
                if steps:
                    place = (np.minimum((place * steps).astype(int), steps - 1) + 0.5) / steps
                out.append(place[:, None])
        return np.concatenate(out, axis=1)


def ordered(range_: Choice) -> bool:
    """Whether the options are rising numbers."""
    options = range_.options
    numbers = all(isinstance(o, int | float) and not isinstance(o, bool) for o in options)
    return numbers and list(options) == sorted(options)  # type: ignore[type-var]


def _steps(range_: Range) -> int:
    """Equal intervals that the unit interval is cut into; 0 when it is not."""
    if isinstance(range_, Choice):
        return len(range_.options)
    if isinstance(range_.low, int) and isinstance(range_.high, int) and not range_.log:
        return range_.high - range_.low + 1
    return 0
