"""Freeze-thaw where several losses count: each choice is made under weights of its own.

Whenever a segment ends weights are drawn anew, and every curve is written again as the one loss
that they make of its losses (`scalarizing.py`): this is what is forecast, and what the best known
end is counted in. So in turn those trials are trained on that promise most for each part of the
front. A loss that training does not change, as the number of weights, is a floor under its curve.

All curves are forecast again after each segment: O(trials) fits instead of one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from automl.search.fidelity.freeze_thaw import FreezeThaw
from automl.search.pareto import Loss
from automl.search.scalarizing import draw_weights, scalarized


class WeighedFreezeThaw(FreezeThaw):
    """Freeze-thaw told `Loss`es."""

    def __init__(self, low: int, high: int, eta: int) -> None:
        super().__init__(low, high, eta)
        self._rng = np.random.default_rng(14)
        self._curves: dict[int, dict[float, Loss]] = {}  # by trial, by share of the training

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        end = self.steps[-1]
        if not math.isfinite(losses[self._trials[trial].stop]):
            self._curves.pop(trial, None)
        else:
            known = {s / end: x for s, x in losses.items() if isinstance(x, Loss)}
            self._curves.setdefault(trial, {}).update(known)
        self._weigh()
        weighed = self._trials[trial].losses
        super().report(trial, {s: weighed.get(s / end, math.inf) for s in losses})

    def _weigh(self) -> None:
        """Write every curve as one loss, under other weights than before."""
        places = [(t, share) for t, curve in self._curves.items() for share in curve]
        found = [self._curves[t][share] for t, share in places]
        if not found:
            return
        rows = np.array([x.losses for x in found])
        violations = np.array([x.violation for x in found])
        whole = scalarized(rows, violations, draw_weights(self._rng, rows.shape[1]))
        for trial in self._curves:
            self._trials[trial].losses, self._trials[trial].forecast = {}, None
        for (trial, share), loss in zip(places, whole.tolist(), strict=True):
            self._trials[trial].losses[share] = loss
        ends = [t.losses[1.0] for t in self._trials.values() if 1.0 in t.losses]
        self._best = min(ends, default=math.inf)
