"""A screened start: the first trials stop at the first rung, and the best third goes to the end.

    screened    trials that may be stopped: `count` of them, and with many workers more, see below
    promoted    once `count` have begun and half as many have been heard of, the best
                floor(heard / eta) by their loss there, each to its end in one segment
    later       whoever never was to be stopped trains to its end

With one worker all have been heard of by then. With several nobody waits for the last: who has
nothing to train on screens another, and promotions go on as results come, as in ASHA. Early ranks
are good enough to choose what a model is shown first, and not good enough to stop what it
proposes: see docs/search.md. A dozen points looked at for a ninth of a training each, with four of
them finished, cost as much as five whole trainings.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

from automl.search.fidelity.asha import rungs


class Screened:
    """The rule of who trains on: the best of those that begin together, then everybody."""

    def __init__(self, low: int, high: int, eta: int, *, count: int) -> None:
        self._first, self._end = rungs(low, high, eta)[0], high
        self._count, self._eta = count, eta
        self._screened: set[int] = set()
        self._waiting: list[tuple[float, int]] = []  # heap of (loss, trial)
        self._heard = self._promoted = 0

    def enter(self, trial: int, *, full: bool) -> int:
        if full:
            return self._end
        self._screened.add(trial)
        return self._first

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        if trial in self._screened and max(losses) < self._end:
            self._heard += 1
            if losses[max(losses)] < math.inf:
                heapq.heappush(self._waiting, (losses[max(losses)], trial))

    def next(self) -> tuple[int, int, int] | None:
        if len(self._screened) < self._count or 2 * self._heard < self._count:
            return None
        if self._promoted >= self._heard // self._eta or not self._waiting:
            return None
        self._promoted += 1
        _, trial = heapq.heappop(self._waiting)
        return trial, self._first, self._end
