"""auto: the default strategy, put together from what paid on recorded trainings.

    trial 0       the baseline, to the end
    then          the portfolio: at most a fifth of the budget; as many of its entries as that
                  allows run to the end, the others start under the rungs; of a budget under five
                  trainings one entry alone, to its end
    without one   scattered points, screened at the first rung until four of the best third have
                  come to their end
    from there    our GP; where the space is crowded, in turn with a variation of the best trials;
                  where it has branches, every fourth time within the one that was tried least,
                  every eighth once all have been tried eight times

In a space of few dimensions every other trial runs to its end, and the model sees ends only: on
recorded trainings it learnt more from whole trainings than from three times as many that were
stopped. Only what it is shown first is screened (`automl.search.fidelity.screened`). What
the portfolio shows it need not be scattered for again. In a crowded space, where a few
dozen trials cannot cover what there is, one in seven does, and the others go under cautious ASHA;
those that are never stopped are the insurance against tasks whose early losses mislead, and the
only ones that show it. What was tried beside it, with its numbers: docs/search.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from automl.search.paired import Suggestion
from automl.search.samplers.gp import GpSampler
from automl.search.samplers.neighbours import NeighbourSampler
from automl.space.ranges import Choice, Value
from automl.space.tree import Point, Space

_PORTFOLIO_SHARE = 0.2  # of the budget
_FULL_EVERY = 7
_STARTUP = 8  # points that the model sees before it proposes, the portfolio's among them
_STARTUP_SHARE = 0.4  # of the budget at most
_SCATTERED = 2  # of these at least
_UNKNOWN_BUDGET = 20.0  # full trainings, when the caller has no idea
_CROWDED = 20  # dimensions from which a few dozen trials teach a model too little
_BRANCH_EVERY = 4  # proposals
_BRANCH_TRIALS = 8  # from which on it is half as often
_CHOSEN = 4  # screened trials that go on to the end


class AutoSampler:
    """The portfolio, then a Gaussian process."""

    def __init__(
        self,
        space: Space,
        portfolio: Sequence[Point],
        *,
        seed: int,
        budget: float | None,
        rungs: Sequence[float],
        screened: int = 0,
        ends: int = 0,
    ) -> None:
        """`rungs`: shares of a full training at which trials are compared, the last one 1.

        `screened`: scattered trials to begin with that the rule stops there, see `to_screen`, and
        more of them until `ends` of them have ended.
        """
        self._crowded = len(space) >= _CROWDED
        self._screened = screened
        self._ends = ends
        self._screening: set[int] = set()  # trials that have not ended
        self._ended = 0  # of them
        if not self._crowded:
            rungs = (1.0,)
        budget = _UNKNOWN_BUDGET if budget is None else budget
        share = _PORTFOLIO_SHARE * budget
        self._portfolio = list(portfolio)[: max(int(share / rungs[0]), 1)]
        self._full = _affordable(share, len(self._portfolio), rungs[0])
        if share < 1:  # else nothing but the baseline would come to its end
            self._portfolio, self._full = self._portfolio[:1], 1
        known = min(_STARTUP, int(_STARTUP_SHARE * budget)) - len(self._portfolio)
        startup = 0 if screened else max(known, _SCATTERED)
        self._model = GpSampler(space, seed=seed, rungs=rungs, startup=startup)
        self._near = NeighbourSampler(space, seed=seed)
        self._suggested = 0
        self._tried = {} if self._crowded else dict.fromkeys(_branches(space), 0)

    def suggest(self, trial: int) -> Suggestion:
        return self._next(trial, None)

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`; after the portfolio with these names fixed."""
        return self._next(trial, fixed)

    def sated(self) -> bool:
        return self._model.sated()

    def _next(self, trial: int, fixed: Point | None) -> Suggestion:
        index = self._suggested
        self._suggested += 1
        if index < len(self._portfolio):
            point = self._portfolio[index]
            self.adopt(trial, point)
            return Suggestion(point, "portfolio", full=index < self._full)
        index -= len(self._portfolio)
        if index < self._screened or self._ended < self._ends:
            self._screening.add(trial)
            point = self._model.scatter(trial, fixed or {}).point
            self._near.adopt(trial, point)
            self._count(point)
            return Suggestion(point)
        stopped = self._crowded and index % _FULL_EVERY != _FULL_EVERY - 1
        if self._crowded and index % 2 == 0:
            point = self._near.suggest_like(trial, fixed or {}).point
            self._model.adopt(trial, point)
        else:
            point = self._model.suggest_like(trial, fixed or self._branch(index)).point
            self._near.adopt(trial, point)
            self._count(point)
        return Suggestion(point, full=not stopped)

    def adopt(self, trial: int, point: Point) -> None:
        self._model.adopt(trial, point)
        self._near.adopt(trial, point)
        self._count(point)

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        self._model.observe(trial, loss, curve)
        self._near.observe(trial, loss)
        if trial in self._screening and (loss == math.inf or max(curve or [1.0]) >= 1):
            self._screening.remove(trial)
            self._ended += 1

    def _branch(self, index: int) -> Point:
        """The choice that opens the branch with the fewest trials, when its turn is; else {}."""
        if not self._tried:
            return {}
        (name, option), fewest = min(self._tried.items(), key=lambda each: each[1])
        every = _BRANCH_EVERY * (1 if fewest < _BRANCH_TRIALS else 2)
        return {name: option} if index % every == every - 1 else {}

    def _count(self, point: Point) -> None:
        for name, option in point.items():
            if (name, option) in self._tried:
                self._tried[name, option] += 1


def to_screen(
    space: Space, portfolio: Sequence[Point], *, budget: float | None, rungs: int, eta: int
) -> int:
    """Scattered trials that are screened first; none where a portfolio is there, no early value,
    or a crowd of dimensions, which has rungs of its own.

    >>> from automl.space.ranges import Float
    >>> few = Space({"x": Float(0.0, 1.0)})
    >>> [to_screen(few, [], budget=b, rungs=3, eta=3) for b in (2, 5, 40)]
    [0, 6, 12]
    """
    if portfolio or rungs < 2 or len(space) >= _CROWDED:
        return 0
    share = _STARTUP_SHARE * (_UNKNOWN_BUDGET if budget is None else budget)
    return eta * min(_CHOSEN, int(share))


def _branches(space: Space) -> list[tuple[str, Value]]:
    """Choices that always stand open and have an option which opens others: all their options."""
    names = dict.fromkeys(name for d in space for name, _ in d.when if not space[name].when)
    ranges = [(name, space[name].range) for name in names]
    return [(n, option) for n, r in ranges if isinstance(r, Choice) for option in r.options]


def _affordable(share: float, entries: int, first_rung: float) -> int:
    """Entries that can run to the end when all others stop at the first rung."""
    if first_rung >= 1:
        return entries
    return min(max(int((share - entries * first_rung) / (1 - first_rung)), 0), entries)
