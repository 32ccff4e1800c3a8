"""The median rule: a trial that is worse than the median at a step ends there.

Trials are compared at every multiple of the first rung, each with all that have come to the same
step, itself included. Until `_ENOUGH` have come there, nobody is stopped. A decision is final.
It stops about half of the trials early on, asks nobody to wait, and trusts early losses as far
as the first rung allows.
Source: Golovin et al. 2017, KDD (Vizier), without its running averages.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Mapping

_ENOUGH = 5


class Median:
    """The rule of who trains on: the better half at each comparison."""

    def __init__(self, low: int, high: int, eta: int) -> None:
        self.steps: tuple[int, ...] = (*range(low, high, low), high)
        self._at: dict[int, list[float]] = {step: [] for step in self.steps}
        self._stops: dict[int, int] = {}  # index of the step where the trial's segment stops
        self._passed: dict[int, int] = {}  # comparisons that know the trial
        self._waiting: deque[int] = deque()

    def enter(self, trial: int, *, full: bool) -> int:
        self._stops[trial] = len(self.steps) - 1 if full else 0
        self._passed[trial] = 0
        return self.steps[self._stops[trial]]

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        """Enter the trial at each step that it has come to, and see whether it may go on."""
        here = self._stops[trial]
        for step in self.steps[self._passed[trial] : here + 1]:
            if step in losses:
                insort(self._at[step], losses[step])
        self._passed[trial] = here + 1
        loss, seen = losses[self.steps[here]], self._at[self.steps[here]]
        last = here == len(self.steps) - 1
        few = len(seen) < _ENOUGH
        if not last and loss < math.inf and (few or self._good(loss, seen)):
            self._waiting.append(trial)

    def _good(self, loss: float, seen: list[float]) -> bool:
        """Whether `loss` is no worse than the median of `seen`, sorted and holding it."""
        return loss <= seen[(len(seen) - 1) // 2]

    def next(self) -> tuple[int, int, int] | None:
        if not self._waiting:
            return None
        trial = self._waiting.popleft()
        here = self._stops[trial]
        self._stops[trial] = here + 1
        return trial, self.steps[here], self.steps[here + 1]
