"""ASHA: whenever a worker is free, the best waiting trial in the top 1/eta of a rung trains on.

    rungs       low, low*eta, low*eta^2, ..., high
    promotable  n trials have a loss at the rung: the best floor(n / eta) of them, not yet promoted
    next        the best promotable trial of the highest rung that has one

Nobody waits for a rung to fill, so early promotions can be mistaken; they are never taken back.
A promoted trial goes on from its checkpoint. What counts at a rung is each trial's loss at that
very step, also that of trials which were never stopped there. Equal losses: the earlier trial
first. Failed and diverged trials count in n and are never promoted.

Each event costs O(log n), see `Rung`; Optuna's pruners walk all trials instead.
Source: Li et al. 2020, arXiv:1810.05934.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from typing import Protocol

_CLOSE = 2  # a rung so near the end (high / rung) would save next to nothing


def rungs(low: int, high: int, eta: int) -> tuple[int, ...]:
    """Steps at which trials are compared, the last being the end of training.

    Rungs are whole multiples of `low`; one beyond half of the training is left out.

    >>> rungs(6, 52, 3)
    (6, 18, 52)
    >>> rungs(100, 1000, 3)
    (100, 300, 1000)
    """
    steps = []
    step = low
    while step * _CLOSE <= high and step < high:
        steps.append(step)
        step *= eta
    return (*steps, high)


class Rung:
    """Losses at one step, split into the best floor(n / eta) and the rest as they come.

    Two heaps hold the split, a third one those of the top that have not been promoted. A trial
    that is pushed out of the top leaves that third heap when its turn comes.
    """

    def __init__(self, eta: int) -> None:
        self._eta = eta
        self._top: list[tuple[float, int]] = []  # worst first: (-loss, -trial)
        self._rest: list[tuple[float, int]] = []  # best first: (loss, trial)
        self._waiting: list[tuple[float, int]] = []  # best first, with leftovers
        self._in_top: set[int] = set()
        self._settled: set[int] = set()  # promoted, or never to be

    def __len__(self) -> int:
        return len(self._top) + len(self._rest)

    def add(self, trial: int, loss: float, *, waits: bool = True) -> None:
        """A trial has come here; `waits` says that it has stopped and can be promoted."""
        if not waits or loss == math.inf:
            self._settled.add(trial)
        heapq.heappush(self._rest, (loss, trial))
        if self._top and self._rest[0] < _mirrored(self._top[0]):
            self._raise_best()
            self._drop_worst()
        if len(self._top) < len(self) // self._eta:
            self._raise_best()

    def promote(self) -> int | None:
        """The best trial of the top that waits, settled from now on; None when there is none."""
        while self._waiting:
            _, trial = heapq.heappop(self._waiting)
            if trial in self._in_top and trial not in self._settled:
                self._settled.add(trial)
                return trial
        return None

    def _raise_best(self) -> None:
        loss, trial = heapq.heappop(self._rest)
        heapq.heappush(self._top, (-loss, -trial))
        self._in_top.add(trial)
        if trial not in self._settled:
            heapq.heappush(self._waiting, (loss, trial))

    def _drop_worst(self) -> None:
        worst = _mirrored(heapq.heappop(self._top))
        heapq.heappush(self._rest, worst)
        self._in_top.discard(worst[1])


class Waiting(Protocol):
    """What a rung does, however it ranks."""

    def add(self, trial: int, loss: float, *, waits: bool = True) -> None: ...

    def promote(self) -> int | None: ...


class Asha:
    """The rule of who trains on: the best 1/eta of each rung, decided as results come."""

    _rung: Callable[[int], Waiting] = Rung

    def __init__(self, low: int, high: int, eta: int) -> None:
        self.steps = rungs(low, high, eta)
        self._rungs = [self._rung(eta) for _ in self.steps[:-1]]
        self._stops: dict[int, int] = {}  # index of the rung where the trial's segment stops
        self._passed: dict[int, int] = {}  # rungs that know the trial

    def enter(self, trial: int, *, full: bool, first: int = 0) -> int:
        """A new trial that stops first at rung number `first`."""
        self._stops[trial] = len(self._rungs) if full else min(first, len(self._rungs))
        self._passed[trial] = 0
        return self.steps[self._stops[trial]]

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        """Enter the trial in each rung that it has come to."""
        here = self._stops[trial]
        ended = losses[self.steps[here]] == math.inf
        for index in range(self._passed[trial], min(here + 1, len(self._rungs))):
            loss = math.inf if ended else losses.get(self.steps[index])
            if loss is not None:
                self._rungs[index].add(trial, loss, waits=index == here)
        self._passed[trial] = here + 1

    def next(self) -> tuple[int, int, int] | None:
        for index in reversed(range(len(self._rungs))):
            trial = self._rungs[index].promote()
            if trial is not None:
                self._stops[trial] = index + 1
                return trial, self.steps[index], self.steps[index + 1]
        return None


def _mirrored(entry: tuple[float, int]) -> tuple[float, int]:
    return -entry[0], -entry[1]
