"""Trials in the order of their losses, kept as results come: an ask need not sort thousands."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator


class Standings:
    """Trial numbers by latest loss, the best first; of equal ones the earlier trial. Infinity: out.

    A result costs O(log n) comparisons, and n pointers moved.

    >>> standings = Standings()
    >>> for trial, loss in ((0, 0.5), (1, 0.2), (2, 0.0), (0, 0.1), (2, math.inf)):
    ...     standings.put(trial, loss)
    >>> list(standings)
    [0, 1]
    """

    def __init__(self) -> None:
        self._ordered: list[tuple[float, int]] = []
        self._losses: dict[int, float] = {}

    def put(self, trial: int, loss: float) -> None:
        """The latest loss of `trial`, in the place of an earlier one."""
        if trial in self._losses:
            del self._ordered[bisect_left(self._ordered, (self._losses.pop(trial), trial))]
        if loss < math.inf:
            self._losses[trial] = loss
            insort(self._ordered, (loss, trial))

    def best(self, count: int) -> list[int]:
        return [trial for _, trial in self._ordered[:count]]

    def __iter__(self) -> Iterator[int]:
        return (trial for _, trial in self._ordered)
