"""TPE: model where good and bad points lie, and try what looks good and not bad.

    good       the best tenth of the trials (25 at most) that have reported; the others are bad,
               and so is, until it reports, who runs (constant liar): several workers spread out
    propose    of 24 draws from the good ones' estimator the largest  log p_good(x) - log p_bad(x)
    fronts     of several losses: the best twentieth is good, by front, and of the front that fits
               in part those who together dominate most; who breaks a constraint comes last.
               Of more than two, all draws of a group are near one of the good, any: among draws
               near all of them the largest ratio keeps to one part of the front

The space is a tree, and it is walked as one: dimensions with the same conditions form a group,
and each group that is open is drawn jointly (`parzen.py`) from the trials that had it. Every trial
counts with its latest loss: one that waits at a rung is already known. The first `startup` trials
are drawn at random.

Of long histories only the best trials and an even selection of the others are kept, which bounds
the time of an ask.
Source: Bergstra et al. 2011, NeurIPS 24; numbers as in Optuna's TPESampler, multivariate. Fronts:
Ozaki et al. 2020, GECCO.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from automl.search.paired import Suggestion
from automl.search.pareto import elite
from automl.search.parzen import Axes, Parzen
from automl.space.ranges import Choice, Value
from automl.space.tree import Dimension, Point, Space

_GOOD, _MOST_GOOD = 0.1, 25
_GOOD_OF_FRONTS = 0.05  # with several losses; see docs/search.md
_CANDIDATES = 24
_KEPT = 120  # trials after thinning out; at twice as many they are thinned out again
_BEST = 30  # of these are the best ones
_DRAWS = 4  # before a point is taken that was tried already


class TpeSampler:
    """TPE on a tree of conditions."""

    def __init__(self, space: Space, *, seed: int, startup: int = 10) -> None:
        self._tree = tuple(_groups(space))
        self._place = {d.name: i for i, d in enumerate(space)}
        self._space, self._startup = space, startup
        self._rng = np.random.default_rng([seed, 1])
        self._rows: dict[int, np.ndarray] = {}  # places [d], nan where not active
        self._told: dict[int, tuple[tuple[float, ...], float]] = {}  # losses, violation
        self._begun = 0
        self._seen: set[tuple[tuple[str, Value], ...]] = set()

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed."""
        split = self._split() if self._begun >= self._startup else None
        for _ in range(_DRAWS):
            point = self._draw(split, fixed)
            if tuple(point.items()) not in self._seen:
                break
        self.adopt(trial, point)
        return Suggestion(point)

    def adopt(self, trial: int, point: Point) -> None:
        self._begun += 1
        self._seen.add(tuple(point.items()))
        row = np.full(len(self._space), math.nan)
        for name, value in point.items():
            row[self._place[name]] = self._space[name].range.encode(value)
        self._rows[trial] = row

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        self.observe_losses(trial, (loss,), 0.0 if loss < math.inf else math.inf)

    def observe_losses(self, trial: int, losses: Sequence[float], violation: float) -> None:
        if trial not in self._rows:
            return  # thinned out
        self._told[trial] = tuple(losses), violation
        if len(self._told) >= 2 * _KEPT:
            self._thin_out()

    def _best(self, count: int) -> set[int]:
        """So many of the trials that have reported."""
        trials = list(self._told)
        losses, violations = zip(*self._told.values(), strict=True) if trials else ((), ())
        return {trials[i] for i in elite(losses, violations, count)}

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of good and of bad trials, as they were begun."""
        share = _GOOD_OF_FRONTS if self._count() > 1 else _GOOD
        good = self._best(min(math.ceil(share * len(self._told)), _MOST_GOOD))
        rows = np.array(list(self._rows.values()))
        is_good = np.array([t in good for t in self._rows])
        return rows[is_good], rows[~is_good]

    def _count(self) -> int:
        """Losses of a trial."""
        return max((len(losses) for losses, _ in self._told.values()), default=1)

    def _draw(self, split: tuple[np.ndarray, np.ndarray] | None, fixed: Point) -> dict[str, Value]:
        point: dict[str, Value] = {}
        for group in self._tree:
            if not group[0].active(point):
                continue
            free = [d for d in group if d.name not in fixed and not _single(d)]
            places = self._promising(free, split) if free and split else self._rng.random(len(free))
            point.update((d.name, fixed.get(d.name, d.range.default)) for d in group)
            point.update(
                (d.name, d.range.decode(u)) for d, u in zip(free, places.tolist(), strict=True)
            )
        return point

    def _promising(
        self, free: Sequence[Dimension], split: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Places [free] of the most promising draw."""
        axes, columns = Axes([d.range for d in free]), [self._place[d.name] for d in free]
        rows = [x[:, columns] for x in split]
        good, bad = (Parzen(axes, x[~np.isnan(x).any(axis=1)]) for x in rows)
        drawn = good.draw(self._rng, _CANDIDATES, near_one=self._count() > 2)
        value = good.log_density(drawn) - bad.log_density(drawn)
        best: np.ndarray = drawn[int(value.argmax())]
        return best

    def _thin_out(self) -> None:
        best = self._best(_BEST)
        others = sorted(self._told.keys() - best)
        picks = np.linspace(0, len(others) - 1, _KEPT - _BEST).round().astype(int)
        kept = best | {others[i] for i in picks.tolist()}
        for gone in self._told.keys() - kept:
            del self._told[gone], self._rows[gone]


def _groups(space: Space) -> Iterator[list[Dimension]]:
    """Dimensions with equal conditions, in an order in which each comes after what opens it."""
    groups: dict[object, list[Dimension]] = {}
    for d in space:
        groups.setdefault(d.when, []).append(d)
    done: set[str] = set()
    waiting = list(groups.values())
    while waiting:
        group = next(g for g in waiting if all(name in done for name, _ in g[0].when))
        waiting.remove(group)
        done.update(d.name for d in group)
        yield group


def _single(d: Dimension) -> bool:
    range_ = d.range
    return len(range_.options) == 1 if isinstance(range_, Choice) else range_.low == range_.high
