"""The fidelity rules where several losses count: a trial's place in the order takes its loss's.

    place      by front, then by crowding, after the constraints (`search.pareto.order`)
    asha, hyperband, cautious      the best floor(n / eta) places of a rung
    median                         the better half of the places at a step
    pbt, pb2                       the best fifth of the places is copied, the worst replaced
    freeze_thaw                    no place, but weights of its own for each choice (`weighed.py`)

A place changes with every trial that comes, so it is taken anew whenever a rung is asked, from the
losses that are known there by then. Rules that have no form of their own here are told one number
made of all losses, each scaled by what is known so far.
Source: Schmucker et al. 2021, arXiv:2106.12639 (multi-objective ASHA), with NSGA-II's order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from automl.search.fidelity.asha import Asha
from automl.search.fidelity.cautious import Cautious
from automl.search.fidelity.freeze_thaw import FreezeThaw
from automl.search.fidelity.hyperband import Hyperband
from automl.search.fidelity.median import Median
from automl.search.fidelity.pbt import Population
from automl.search.fidelity.weighed import WeighedFreezeThaw
from automl.search.paired import Rule
from automl.search.pareto import Loss, order


class RankedRung:
    """Trials at one step, the best floor(n / eta) by place to be promoted."""

    def __init__(self, eta: int) -> None:
        self._eta = eta
        self._losses: dict[int, float] = {}
        self._settled: set[int] = set()  # promoted, or never to be
        self._top: list[int] | None = None  # of the present losses

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, trial: int, loss: float, *, waits: bool = True) -> None:
        """A trial has come here; `waits` says that it has stopped and can be promoted."""
        if not waits or loss == math.inf:
            self._settled.add(trial)
        self._losses[trial] = loss
        self._top = None

    def promote(self) -> int | None:
        """The best trial of the top that waits, settled from now on; None when there is none."""
        if self._top is None:
            trials = list(self._losses)
            best = ordered([self._losses[t] for t in trials])[: len(trials) // self._eta]
            self._top = [trials[i] for i in best]
        found = next((t for t in self._top if t not in self._settled), None)
        if found is not None:
            self._settled.add(found)
        return found


class RankedAsha(Asha):
    """ASHA by place."""

    _rung = RankedRung


class RankedCautious(Cautious):
    """Cautious ASHA by place; whether early ranks can be trusted is seen from places, too."""

    _rung = RankedRung

    def _ranked(self, losses: Sequence[float]) -> np.ndarray:
        places: np.ndarray = np.argsort(ordered(losses), kind="stable")
        return places


class RankedHyperband(Hyperband):
    """Hyperband's brackets by place."""

    _bracket_of = RankedAsha


class RankedMedian(Median):
    """The median rule by place."""

    def _good(self, loss: float, seen: list[float]) -> bool:
        better = ordered(seen)[: (len(seen) + 1) // 2]
        return any(seen[i] is loss for i in better)


class RankedPopulation(Population):
    """Population based training by place."""

    def _ranked(self, losses: Mapping[int, float]) -> list[int]:
        trials = sorted(losses)
        return [trials[i] for i in ordered([losses[t] for t in trials])]


_RANKED: dict[Callable[[int, int, int], Rule], Callable[[int, int, int], Rule]] = {
    Asha: RankedAsha,
    Cautious: RankedCautious,
    FreezeThaw: WeighedFreezeThaw,
    Hyperband: RankedHyperband,
    Median: RankedMedian,
}


def ranked(rule: Callable[[int, int, int], Rule]) -> Callable[[int, int, int], Rule]:
    """The form of a rule that ranks by places."""
    return _RANKED.get(rule, rule)


def ordered(losses: Sequence[float]) -> list[int]:
    """Indices from the best to the worst; what failed is last."""
    parts = [x if isinstance(x, Loss) else None for x in losses]
    width = next((len(p.losses) for p in parts if p is not None), 1)
    return order(
        [p.losses if p is not None else (math.inf,) * width for p in parts],
        [p.violation if p is not None else math.inf for p in parts],
    )
