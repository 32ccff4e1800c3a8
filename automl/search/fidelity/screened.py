"""A screened start: the first trials stop at the first rung, and the best third goes to the end.

    screened    the first `count` trials that may be stopped
    promoted    once all of them have been heard of, floor(count / eta), by their loss there; each
                goes on to the end of its training in one segment
    later       every other trial trains to its end

Early ranks are good enough to choose what a model is shown first, and not good enough to stop what
it proposes: see docs/search.md. A dozen points looked at for a ninth of a training each, with four
of them finished, cost as much as five whole trainings.
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
        self._count = count
        self._room = count // eta  # that are still to be promoted
        self._screened: set[int] = set()
        self._heard: list[tuple[float, int]] = []  # heap of (loss, trial)
        self._unheard = count

    def enter(self, trial: int, *, full: bool) -> int:
        if full or len(self._screened) == self._count:
            return self._end
        self._screened.add(trial)
        return self._first

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        if trial in self._screened and max(losses) < self._end:
            self._unheard -= 1
            if losses[max(losses)] < math.inf:
                heapq.heappush(self._heard, (losses[max(losses)], trial))

    def next(self) -> tuple[int, int, int] | None:
        if self._unheard or not self._room or not self._heard:
            return None
        self._room -= 1
        _, trial = heapq.heappop(self._heard)
        return trial, self._first, self._end
