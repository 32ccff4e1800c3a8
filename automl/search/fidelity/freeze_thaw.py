"""Freeze-thaw: of all trials that wait, and a new one, train what promises most per second.

    forecast      of each trial's loss at the end, from its curve so far (`curves.py`)
    promise       expected improvement on the best end that is known, over the seconds to get there
    a new trial   its end is like those that recent trials are forecast; it costs the first rung,
                  and one in `eta` goes on to the end

A trial is thawed for one rung, then frozen and weighed again; rungs lie a factor of the root of eta
apart. Forecasts are compared with what came: where they were wrong by more than they allowed,
all deviations are stretched by that. Seconds are measured; until some are, steps count as seconds.
The trial that waits longest wins between equals. Sources: see `curves.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from automl.search.fidelity.curves import Forecast, forecast

_FIRST = 5  # trials that begin before anything is weighed
_WAITING = 64  # trials that are weighed
_WORST = 4.0  # deviations that a miss counts for at most
_RECENT = 16  # trials whose forecasts say what a new one is worth


@dataclass
class _Trial:
    start: int
    stop: int
    full: bool
    waits: bool = False
    failed: bool = False
    losses: dict[float, float] = field(default_factory=dict)  # by share of the training
    forecast: Forecast | None = None
    seconds: float = 0.0
    steps: int = 0


class FreezeThaw:
    """The rule of who trains on: whoever promises most for what it costs."""

    def __init__(self, low: int, high: int, eta: int) -> None:
        self.steps = _rungs(low, high, math.sqrt(eta))
        self._eta = eta
        self._trials: dict[int, _Trial] = {}
        self._best = math.inf
        self._misses: list[float] = []  # of forecasts, in their deviations, squared

    def prefers_new(self) -> bool:
        return len(self._trials) < _FIRST or self._promising() is None

    def enter(self, trial: int, *, full: bool) -> int:
        stop = self.steps[-1] if full else self.steps[0]
        self._trials[trial] = _Trial(0, stop, full)
        return stop

    def paid(self, trial: int, steps: int, seconds: float) -> None:
        self._trials[trial].seconds += seconds
        self._trials[trial].steps += steps

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        t = self._trials[trial]
        loss = losses[t.stop]
        if not math.isfinite(loss):
            t.losses, t.failed = {}, True
            return
        t.forecast = None
        t.losses |= {step / self.steps[-1]: value for step, value in losses.items()}
        if t.stop == self.steps[-1]:
            self._ended(t, loss)
        else:
            t.waits = True

    def next(self) -> tuple[int, int, int] | None:
        """The best promise, though a new trial may promise more: here none is to begin."""
        found = self._ranked()
        if not found:
            return None
        trial = found[0][1]
        t = self._trials[trial]
        t.waits, t.start = False, t.stop
        t.stop = self.steps[self.steps.index(t.stop) + 1]
        return trial, t.start, t.stop

    # ----------------------------------------------------------------------------------------

    def _promising(self) -> int | None:
        """The trial that promises more than a new one."""
        found = self._ranked()
        return found[0][1] if found and found[0][0] > self._of_a_new_one() else None

    def _ranked(self) -> list[tuple[float, int]]:
        """(promise, trial) of those that wait, the largest first."""
        best, rates = self._target(), self._seconds_a_step()
        found = []
        for number, t in self._trials.items():
            if t.waits:
                gain = self._forecast(t).improvement(best, stretched=self._stretch())
                cost = (self.steps[-1] - t.stop) * rates.get(number, rates[-1])
                found.append((gain / cost, number))
        found.sort(key=lambda item: (-item[0], item[1]))
        for _, number in found[_WAITING:]:
            self._trials[number].waits = False  # given up: an ask must not cost more and more
        return found

    def _of_a_new_one(self) -> float:
        recent = [t for t in list(self._trials.values())[-_RECENT:] if t.losses or t.failed]
        ends = np.array([self._end(t) for t in recent if t.losses])
        if len(ends) < 2:
            return math.inf
        one = Forecast(np.ones(1), ends.mean(keepdims=True), ends.std(ddof=1, keepdims=True))
        low, high = self.steps[0], self.steps[-1]
        cost = (low + (high - low) / self._eta) * self._seconds_a_step()[-1]
        return len(ends) / len(recent) * one.improvement(self._target()) / cost

    def _end(self, t: _Trial) -> float:
        """The trial's loss at the end: what it was, or its forecast."""
        return t.losses[1.0] if 1.0 in t.losses else self._forecast(t).mean

    def _target(self) -> float:
        """The best end; while none is known, the best that is forecast."""
        if self._best < math.inf:
            return self._best
        return min((self._forecast(t).mean for t in self._trials.values() if t.losses), default=0.0)

    def _forecast(self, t: _Trial) -> Forecast:
        if t.forecast is None or len(self._trials) <= _RECENT:  # what is usual is still unclear
            expected, spread = self._scale()
            t.forecast = forecast(t.losses, expected=expected, spread=spread)
        return t.forecast

    def _scale(self) -> tuple[float, float]:
        """Median of the last losses of all trials, and the spread of first and last ones."""
        curves = [t.losses for t in self._trials.values() if t.losses]
        last = np.array([losses[max(losses)] for losses in curves])
        first = np.array([losses[min(losses)] for losses in curves])
        low, high = np.quantile(np.concatenate([first, last]), [0.1, 0.9])
        return float(np.median(last)), max(float(high - low) / 2, 1e-9)

    def _ended(self, t: _Trial, loss: float) -> None:
        """A trial has come to its end: see how well that was foreseen from half of its way."""
        self._best = min(self._best, loss)
        early = {s: v for s, v in t.losses.items() if s <= 0.5}
        if early and len(self._trials) > _FIRST:
            expected, spread = self._scale()
            said = forecast(early, expected=expected, spread=spread)
            deviation = math.sqrt(
                float(said.weights @ (said.deviations**2 + (said.means - said.mean) ** 2))
            )
            self._misses.append(min(abs(loss - said.mean) / max(deviation, 1e-12), _WORST) ** 2)

    def _stretch(self) -> float:
        """How much wider forecasts are to be taken; one miss of size 1 is believed beforehand."""
        return math.sqrt(max((1.0 + sum(self._misses)) / (1 + len(self._misses)), 1.0))

    def _seconds_a_step(self) -> dict[int, float]:
        """By trial; under -1 the median."""
        rates = {n: t.seconds / t.steps for n, t in self._trials.items() if t.steps}
        middle = float(np.median(list(rates.values()))) if rates else 1.0
        return {-1: middle, **rates}


def _rungs(low: int, high: int, factor: float) -> tuple[int, ...]:
    """Whole multiples of `low` about a factor apart, and the end."""
    steps, at = [], float(low)
    while round(at / low) * low < high:
        steps.append(round(at / low) * low)
        at = max(at * factor, steps[-1] + low)
    return (*dict.fromkeys(steps), high)
