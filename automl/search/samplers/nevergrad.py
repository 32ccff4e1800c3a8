"""Nevergrad's optimizers by name, as samplers: `nevergrad:NGOpt`, `de`, `pso`.

The tree is flattened: numbers are scalars in the unit cube that begin at their defaults, whatever
stands for no order is a choice; a name that is not active is drawn all the same and ignored. Points
that others chose are told where the optimizer takes such. One that can only work on one trial at a
time gets random points beside it.

Some optimizers draw from the global generators of NumPy and Python. Every call runs with states of
their own in place of these, so that a replay repeats it, and the caller's are left untouched.
Nevergrad 1.0 breaks with NumPy 2.4 and later: the extra `nevergrad` pins it.
Source: Rapin and Teytaud 2018, github.com/facebookresearch/nevergrad.
"""

from __future__ import annotations

import importlib.util
import math
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from automl.errors import StrategyError
from automl.registry import nearest
from automl.search.columns import ordered
from automl.search.paired import Suggestion
from automl.space.ranges import Choice, Range, Value
from automl.space.tree import Point, Space

_UNKNOWN_BUDGET = 100  # trials
_DRAWS = 8  # before a point is taken that was tried already
_WORST = 1e12  # of losses before any is known; optimizers want finite ones


def missing() -> str:
    """Why Nevergrad cannot be used here; empty when it can."""
    if importlib.util.find_spec("nevergrad") is None:
        return "Nevergrad is not installed; pip install 'automl-service[nevergrad]'"
    if tuple(int(x) for x in np.__version__.split(".")[:2]) >= (2, 4):
        return f"Nevergrad 1.0 breaks with NumPy {np.__version__}; pip install 'numpy<2.4'"
    return ""


class NevergradSampler:
    """The optimizer that Nevergrad's registry calls `name`.

    Raises:
        StrategyError: Nevergrad is missing or cannot work here, or has no such optimizer.
    """

    def __init__(
        self, space: Space, *, name: str, seed: int, workers: int, budget: float | None
    ) -> None:
        lack = missing()
        if lack:
            raise StrategyError(lack)
        with _Luck(seed).own():  # the first import draws, too
            import nevergrad  # late: as slow to import as torch

        registry = nevergrad.optimizers.registry
        if name not in registry:
            raise StrategyError(f"Nevergrad has no optimizer '{name}'{nearest(name, registry)}")
        self._space, self._name = space, name
        self._rng = np.random.default_rng([seed, 10])
        self._luck = _Luck(seed)
        self._seen: set[tuple[tuple[str, Value], ...]] = set()
        self._asked: dict[int, Any] = {}
        self._worst = -math.inf
        self._refused = nevergrad.errors.TellNotAskedNotSupportedError
        maker = registry[name]
        self._alone = bool(getattr(maker, "no_parallelization", False))
        with self._luck.own():
            tree = nevergrad.p.Dict(**{d.name: _parameter(nevergrad.p, d.range) for d in space})
            tree.random_state.seed(seed)
            self._inner = maker(
                tree,
                budget=max(math.ceil(_UNKNOWN_BUDGET if budget is None else budget), 2),
                num_workers=1 if self._alone else max(workers, 1),
            )

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed; the optimizer learns as if of its own point."""
        if self._alone and self._asked:
            return Suggestion(self._noted(self._space.sample(self._rng, fixed)))
        for _ in range(1 if self._alone else _DRAWS):
            try:
                with self._luck.own():
                    candidate = self._inner.ask()
            except Exception as error:  # some need packages of their own, some divide by zero
                lines = str(error).splitlines() or [type(error).__name__]
                raise StrategyError(f"Nevergrad's {self._name} gave up: {lines[-1]}") from None
            point = self._point(candidate.value, fixed)
            if tuple(point.items()) not in self._seen:
                break
        self._asked[trial] = candidate
        return Suggestion(self._noted(point))

    def adopt(self, trial: int, point: Point) -> None:
        self._noted(dict(point))
        if not self._alone:
            values = {d.name: _told(d.range, point.get(d.name, d.range.default))
                      for d in self._space}  # fmt: skip
            with self._luck.own():
                self._asked[trial] = self._inner.parametrization.spawn_child(new_value=values)

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        if loss < math.inf:
            self._worst = max(self._worst, loss)
        candidate = self._asked.pop(trial, None)
        if candidate is None:
            return
        bad = self._worst + 1 if self._worst > -math.inf else _WORST
        # Points of others are an optional part of Nevergrad's contract.
        with self._luck.own(), suppress(self._refused):
            self._inner.tell(candidate, loss if loss < math.inf else bad)

    def _noted(self, point: dict[str, Value]) -> dict[str, Value]:
        self._seen.add(tuple(point.items()))
        return point

    def _point(self, values: Mapping[str, Any], fixed: Point) -> dict[str, Value]:
        drawn: dict[str, Value] = {}
        for d in self._space:
            value = values[d.name]
            if isinstance(d.range, Choice) and not ordered(d.range):
                drawn[d.name] = d.range.options[int(value)]
            else:
                drawn[d.name] = d.range.decode(float(np.clip(value, 0.0, 1.0)))
        return self._space.complete({**drawn, **fixed})


class _Luck:
    """Global generators of NumPy and Python, put in place for as long as a call lasts."""

    def __init__(self, seed: int) -> None:
        self._numpy = np.random.RandomState(seed).get_state()
        self._python = random.Random(seed).getstate()

    @contextmanager
    def own(self) -> Iterator[None]:
        """Swap the states in, and back out with what the call has drawn; warnings are dropped."""
        theirs = np.random.get_state(), random.getstate()
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            self._numpy, self._python = np.random.get_state(), random.getstate()
            np.random.set_state(theirs[0])
            random.setstate(theirs[1])


def _parameter(p: Any, range_: Range) -> Any:
    if isinstance(range_, Choice) and not ordered(range_):
        return p.Choice(list(range(len(range_.options))))
    return p.Scalar(init=_inside(range_.encode(range_.default)), lower=0.0, upper=1.0)


def _told(range_: Range, value: Value) -> float | int:
    if isinstance(range_, Choice) and not ordered(range_):
        return range_.options.index(value)
    return _inside(range_.encode(value))


def _inside(place: float) -> float:
    """Just off the edges, where some of the optimizers' transforms are infinite."""
    return min(max(place, 1e-6), 1 - 1e-6)
