"""auto: the default strategy, put together from what paid on recorded trainings.

    trial 0       the baseline, to the end
    then          the portfolio: at most a fifth of the budget; as many of its entries as that
                  allows run to the end, the others start under the rungs
    from there    in turn TPE and a variation of the best trials; one trial in seven to the end,
                  the others under cautious ASHA

Trials that are never stopped are the insurance against tasks whose early losses mislead, and the
only ones that show it. A share of random points beside TPE's was tried and gained nothing on 23
LCBench tasks (`benchmarks/search.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from automl.search.paired import Suggestion
from automl.search.samplers.neighbours import NeighbourSampler
from automl.search.samplers.tpe import TpeSampler
from automl.space.tree import Point, Space

_PORTFOLIO_SHARE = 0.2  # of the budget
_FULL_EVERY = 7
_UNKNOWN_BUDGET = 20.0  # full trainings, when the caller has no idea


class AutoSampler:
    """The portfolio, then TPE."""

    def __init__(
        self,
        space: Space,
        portfolio: Sequence[Point],
        *,
        seed: int,
        budget: float | None,
        first_rung: float,
    ) -> None:
        """`first_rung` is the cost of a trial that is stopped there, in full trainings."""
        self._tpe = TpeSampler(space, seed=seed)
        self._near = NeighbourSampler(space, seed=seed)
        share = _PORTFOLIO_SHARE * (_UNKNOWN_BUDGET if budget is None else budget)
        self._portfolio = list(portfolio)[: int(share / first_rung)]
        self._full = _affordable(share, len(self._portfolio), first_rung)
        self._suggested = 0

    def suggest(self, trial: int) -> Suggestion:
        return self._next(trial, None)

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`; after the portfolio from TPE, with these names fixed."""
        return self._next(trial, fixed)

    def _next(self, trial: int, fixed: Point | None) -> Suggestion:
        index = self._suggested
        self._suggested += 1
        if index < len(self._portfolio):
            point = self._portfolio[index]
            self.adopt(trial, point)
            return Suggestion(point, "portfolio", full=index < self._full)
        index -= len(self._portfolio)
        full = index % _FULL_EVERY == _FULL_EVERY - 1
        if fixed is not None:
            point = self._tpe.suggest_like(trial, fixed).point
            self._near.adopt(trial, point)
            return Suggestion(point, full=full)
        one, other = (self._near, self._tpe) if index % 2 == 0 else (self._tpe, self._near)
        point = one.suggest(trial).point
        other.adopt(trial, point)
        return Suggestion(point, full=full)

    def adopt(self, trial: int, point: Point) -> None:
        self._tpe.adopt(trial, point)
        self._near.adopt(trial, point)

    def observe(self, trial: int, loss: float) -> None:
        self._tpe.observe(trial, loss)
        self._near.observe(trial, loss)


def _affordable(share: float, entries: int, first_rung: float) -> int:
    """Entries that can run to the end when all others stop at the first rung."""
    if first_rung >= 1:
        return entries
    return min(max(int((share - entries * first_rung) / (1 - first_rung)), 0), entries)
