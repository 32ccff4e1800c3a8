"""Hyperband: brackets of ASHA that start at the first rung, at the second, ..., at the end.

Nobody knows whether early losses can be trusted, so some trials are compared from the first
rung on and a few only at the end. A bracket with k promotions ahead of it gets trials in
proportion to eta^k / (k + 1): all brackets then spend about the same. Trials compete within
their bracket only. Brackets are asynchronous: nobody waits for one to fill.
Source: Li et al. 2018, arXiv:1603.06560; asynchronous as in arXiv:1810.05934.
"""

from __future__ import annotations

from collections.abc import Mapping

from automl.search.fidelity.asha import Asha, rungs


class Hyperband:
    """The rule of who trains on: that of the trial's own bracket."""

    _bracket_of = Asha

    def __init__(self, low: int, high: int, eta: int) -> None:
        steps = rungs(low, high, eta)
        promotions = range(len(steps) - 1, -1, -1)
        self._brackets = [self._bracket_of(step, high, eta) for step in steps]
        self._shares = [eta**k / (k + 1) for k in promotions]
        self._counts = [0] * len(steps)
        self._bracket: dict[int, Asha] = {}

    def enter(self, trial: int, *, full: bool) -> int:
        """Into the bracket that is furthest behind its share; `full` ones into the last."""
        index = len(self._brackets) - 1 if full else self._emptiest()
        self._counts[index] += 1
        self._bracket[trial] = self._brackets[index]
        return self._bracket[trial].enter(trial, full=full)

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        self._bracket[trial].report(trial, losses)

    def next(self) -> tuple[int, int, int] | None:
        for bracket in reversed(self._brackets):
            going_on = bracket.next()
            if going_on is not None:
                return going_on
        return None

    def _emptiest(self) -> int:
        filled = [count / share for count, share in zip(self._counts, self._shares, strict=True)]
        return filled.index(min(filled))
