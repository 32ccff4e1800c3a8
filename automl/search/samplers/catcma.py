"""CatCMA with margin: one distribution over numbers, whole numbers and choices together.

    numbers          a Gaussian, as in CMA-ES
    whole numbers    the same, kept from settling for good (margin)
    choices          probabilities of the options, moved by the natural gradient

The tree is flattened. A number that is not active learns nothing: it is told at the mean. Defaults
are the first mean, and the default of a choice is twice as likely as any other option at first. The
first spread is `sigma` in every direction: the package's own is at most a twelfth of the range, and
none at all for a default at its edge.
The alternative to one CMA-ES a branch where there are more branches than trials.
Source: Hamano et al. 2025, arXiv:2504.07884; package `cmaes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import cmaes
import numpy as np

from automl.search.columns import ordered
from automl.search.paired import Suggestion
from automl.search.samplers.generations import Engine, Generations
from automl.space.ranges import Choice, Float, Range, Value
from automl.space.tree import Dimension, Point, Space

_DRAWS = 8  # before a point is taken that was tried already


class CatCmaSampler:
    """CatCMA with margin on the flattened space; `restart` as in `generations.py`."""

    def __init__(
        self, space: Space, *, seed: int, restart: str = "same", sigma: float = 0.3
    ) -> None:
        self._space = space
        kinds: dict[str, list[Dimension]] = {"real": [], "whole": [], "choice": [], "fixed": []}
        for d in space:
            kinds[_kind(d.range)].append(d)
        self._reals, self._wholes, self._choices = kinds["real"], kinds["whole"], kinds["choice"]
        self._gaussian = [*self._reals, *self._wholes]
        self._seen: set[tuple[tuple[str, Value], ...]] = set()
        self._search = Generations(
            self._start, len(self._gaussian), sigma=sigma, seed=seed, restart=restart
        )

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed; what was drawn for them is not learnt from."""
        for _ in range(_DRAWS):
            drawn, raw = self._search.engine.ask()
            point = self._space.complete({**self._read(drawn), **fixed})
            if tuple(point.items()) not in self._seen:
                break
        self._seen.add(tuple(point.items()))
        idle = np.array([d.name not in point or d.name in fixed for d in self._gaussian], bool)
        self._search.began(trial, (raw, idle))
        return Suggestion(point)

    def adopt(self, trial: int, point: Point) -> None:
        self._seen.add(tuple(point.items()))

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        self._search.observe(trial, loss)

    def _read(self, solution: Any) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for d, u in zip(self._reals, () if solution.x is None else solution.x, strict=True):
            found[d.name] = d.range.decode(float(u))
        for d, u in zip(self._wholes, () if solution.z is None else solution.z, strict=True):
            found[d.name] = d.range.decode(float(u))
        for d, row in zip(self._choices, () if solution.c is None else solution.c, strict=True):
            assert isinstance(d.range, Choice)
            found[d.name] = d.range.options[int(np.argmax(row))]
        return found

    def _start(
        self, *, mean: np.ndarray | None, sigma: float, seed: int, population_size: int | None
    ) -> Engine:
        if mean is None:
            mean = np.array([d.range.encode(d.range.default) for d in self._gaussian])
        return _Mixed(self._reals, self._wholes, self._choices, mean, sigma, seed, population_size)


class _Mixed:
    """The package's engine; raw is (its solution, numbers that are not to be learnt from)."""

    def __init__(
        self,
        reals: Sequence[Dimension],
        wholes: Sequence[Dimension],
        choices: Sequence[Dimension],
        mean: np.ndarray,
        sigma: float,
        seed: int,
        population_size: int | None,
    ) -> None:
        self._numbers = len(mean) > 0
        counts = [_values(d.range) for d in choices]
        likely = np.zeros((len(counts), max(counts, default=0)))
        for row, d, count in zip(likely, choices, counts, strict=True):
            assert isinstance(d.range, Choice)
            row[:count] = 1.0
            row[d.range.options.index(d.range.default)] = 2.0
            row /= row.sum()
        places = [(np.arange(n) + 0.5) / n for n in (_values(d.range) for d in wholes)]
        self._inner = cmaes.CatCMAwM(
            x_space=[[0.0, 1.0]] * len(reals) or None,
            z_space=[p.tolist() for p in places] or None,
            c_space=counts or None,
            population_size=population_size,
            mean=mean if self._numbers else None,
            sigma=sigma if self._numbers else None,
            cov=np.eye(len(mean)) if self._numbers else None,
            cat_param=likely if counts else None,
            seed=seed,
        )

    @property
    def population_size(self) -> int:
        return int(self._inner.population_size)

    def ask(self) -> tuple[Any, Any]:
        solution = self._inner.ask()
        return solution, solution

    def tell(self, solutions: Sequence[tuple[Any, float]]) -> None:
        mean = self._inner._mean if self._numbers else None
        told = []
        for i, ((solution, idle), loss) in enumerate(solutions):
            if mean is not None and idle.any():
                solution = replace(solution, _v_raw=np.where(idle, mean, solution._v_raw))
            # Of equal losses the package takes the median of nothing: the earlier is the better.
            told.append((solution, loss + 1e-9 * i * max(abs(loss), 1.0)))
        self._inner.tell(told)

    def foreign(self, place: np.ndarray) -> None:
        return None

    def should_stop(self) -> bool:
        return self._numbers and bool(self._inner.should_stop())


def _kind(range_: Range) -> str:
    if isinstance(range_, Choice):
        count = len(range_.options)
        return "fixed" if count == 1 else "whole" if ordered(range_) and count > 2 else "choice"
    if range_.low == range_.high:
        return "fixed"
    return "real" if isinstance(range_, Float) or range_.log or _values(range_) == 2 else "whole"


def _values(range_: Range) -> int:
    if isinstance(range_, Choice):
        return len(range_.options)
    return int(range_.high - range_.low) + 1
