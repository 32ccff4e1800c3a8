"""TPE: model where good and bad points lie, and try what looks good and not bad (Optuna's).

The space is a tree, and it is walked as one: dimensions with the same conditions form a group,
and each group that is open is drawn jointly (multivariate TPE) from the trials that had it.
Trials that run are taken for bad ones until they report (constant liar), so that several workers
spread out. Every trial counts with its latest loss: one that waits at a rung is already known.

TPE compares the best tenth of the trials (25 at most) with the others. Of long histories it is
shown the best trials and an even selection of the others, which bounds the time of an ask.
Source: Bergstra et al. 2011, NeurIPS 24; Optuna 5.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from automl.search.paired import Suggestion
from automl.space.ranges import Choice, Float, Range, Value
from automl.space.tree import Dimension, Point, Space

_KEPT = 120  # finished trials after thinning out; at twice as many they are thinned out again
_BEST = 30  # of these are the best ones
_DRAWS = 4  # before a point is taken that was tried already


class TpeSampler:
    """Optuna's TPE on a tree of conditions.

    The first `startup` trials are drawn at random, as Optuna does.
    """

    def __init__(self, space: Space, *, seed: int, startup: int = 10) -> None:
        self._space = space
        self._seed = seed
        self._tpe = _TreeTpe(space, seed=seed, startup=startup)
        self._study = _new_study(self._tpe)
        self._trials: dict[int, FrozenTrial] = {}  # by our number, in order; Optuna's own objects
        self._finished = 0

    def suggest(self, trial: int) -> Suggestion:
        return Suggestion(self._ask(trial, None))

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        return Suggestion(self._ask(trial, None, fixed))

    def adopt(self, trial: int, point: Point) -> None:
        self._ask(trial, point)

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        frozen = self._trials.get(trial)
        if frozen is None:  # thinned out
            return
        if frozen.state == TrialState.RUNNING:
            self._finished += 1
        # In place: a trial that trains on is the same observation with a better value, and
        # Optuna's own `tell` takes one value a trial.
        frozen.state = TrialState.COMPLETE
        frozen.values = [loss]
        frozen.datetime_complete = frozen.datetime_start  # Optuna wants one; nothing reads it
        if self._finished >= 2 * _KEPT:
            self._thin_out()

    def _ask(
        self, number: int, planned: Point | None, fixed: Point | None = None
    ) -> dict[str, Value]:
        self._tpe.planned, self._tpe.fixed = planned, fixed or {}
        trial = self._study.ask()
        point: dict[str, Value] = {}
        for d in self._space:
            if d.active(point):
                point[d.name] = _suggest(trial, d)
        self._trials[number] = self._study.get_trials(deepcopy=False)[trial.number]
        return point

    def _thin_out(self) -> None:
        finished = [n for n, t in self._trials.items() if t.state == TrialState.COMPLETE]
        ranked = sorted(finished, key=lambda n: (self._trials[n].values[0], n))
        kept = set(ranked[:_BEST])
        others = [n for n in finished if n not in kept]
        picks = np.linspace(0, len(others) - 1, _KEPT - _BEST).round().astype(int)
        kept.update(others[i] for i in picks.tolist())
        left = {n: t for n, t in self._trials.items() if n in kept or t.state == TrialState.RUNNING}
        self._study = _new_study(self._tpe)
        self._study.add_trials(left.values())
        copies = self._study.get_trials(deepcopy=False)
        self._trials = dict(zip(left, copies, strict=True))
        self._finished = sum(t.state == TrialState.COMPLETE for t in copies)


class _TreeTpe(optuna.samplers.TPESampler):  # type: ignore[misc]
    """TPE that draws group after group, down the tree, instead of one flat space."""

    def __init__(self, space: Space, *, seed: int, startup: int) -> None:
        super().__init__(seed=seed, n_startup_trials=startup, multivariate=True, constant_liar=True)
        self._rng_uniform = np.random.default_rng([seed, 1])
        self._tree = tuple(_groups(space))
        self._names = {d.name: _distribution(d.range) for d in space}
        self._seen: set[tuple[tuple[str, Value], ...]] = set()
        self.planned: Point | None = None  # the next trial's point, when somebody else chose it
        self.fixed: Point = {}  # names of it that are not to be drawn

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._names

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self.planned is not None:
            point = dict(self.planned)
        else:
            for _ in range(_DRAWS):
                point = self._draw(study, trial)
                if tuple(point.items()) not in self._seen:
                    break
        self._seen.add(tuple(point.items()))
        return point

    def _draw(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        point: dict[str, Any] = {}
        for group in self._tree:
            if not group[0].active(point):
                continue
            free = {
                d.name: self._names[d.name]
                for d in group
                if d.name not in self.fixed and not self._names[d.name].single()
            }
            drawn = super().sample_relative(study, trial, free) if free else {}
            for d in group:
                if d.name in self.fixed:
                    point[d.name] = self.fixed[d.name]
                elif d.name in drawn:  # to the digits that a space draws with
                    point[d.name] = d.range.decode(d.range.encode(drawn[d.name]))
                else:
                    point[d.name] = d.range.decode(float(self._rng_uniform.random()))
        return point


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


def _new_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # or it announces the study
    study = optuna.create_study(direction="minimize", sampler=sampler)
    optuna.logging.set_verbosity(verbosity)
    return study


def _distribution(range_: Range) -> BaseDistribution:
    if isinstance(range_, Choice):
        return CategoricalDistribution(range_.options)
    if isinstance(range_, Float):
        return FloatDistribution(range_.low, range_.high, log=range_.log)
    return IntDistribution(range_.low, range_.high, log=range_.log)


def _suggest(trial: optuna.Trial, d: Dimension) -> Value:
    range_ = d.range
    value: Value
    if isinstance(range_, Choice):
        value = trial.suggest_categorical(d.name, range_.options)
    elif isinstance(range_, Float):
        value = trial.suggest_float(d.name, range_.low, range_.high, log=range_.log)
    else:
        value = trial.suggest_int(d.name, range_.low, range_.high, log=range_.log)
    return value
