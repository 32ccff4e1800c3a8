"""ASHA that distrusts early ranks until the task has shown that they hold.

Trials that were never stopped (the baseline, and a share of the others) tell how well the loss at
the first rung ranks the final ones. Their Spearman correlation is taken again whenever one of
them ends: while it is below `_TRUST`, new trials run on to the second rung before they are
compared. With fewer than `_ENOUGH` of them the first rung is believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from automl.search.fidelity.asha import Asha

_TRUST = 0.4
_ENOUGH = 6


class Cautious(Asha):
    """The rule of who trains on: ASHA's, from the first rung that can be believed."""

    def __init__(self, low: int, high: int, eta: int) -> None:
        super().__init__(low, high, eta)
        self._first = 0
        self._whole: set[int] = set()  # trials that are never stopped
        self._pairs: list[tuple[float, float]] = []  # their losses at the first rung and the end

    def enter(self, trial: int, *, full: bool, first: int = 0) -> int:
        if full:
            self._whole.add(trial)
        return super().enter(trial, full=full, first=max(first, self._first))

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        super().report(trial, losses)
        early, late = losses.get(self.steps[0], math.inf), losses[max(losses)]
        if trial in self._whole and early < math.inf and late < math.inf:
            self._pairs.append((early, late))
            if len(self._pairs) >= _ENOUGH and len(self.steps) > 2:
                early_ranks, late_ranks = (self._ranked(x) for x in zip(*self._pairs, strict=True))
                self._first = 0 if np.corrcoef(early_ranks, late_ranks)[0, 1] >= _TRUST else 1

    def _ranked(self, losses: Sequence[float]) -> np.ndarray:
        """The place [n] of each loss, ties in order of appearance."""
        places: np.ndarray = np.array(losses).argsort(kind="stable").argsort(kind="stable")
        return places
