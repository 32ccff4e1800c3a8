"""CMA-ES and its relatives: one evolution strategy a branch, under a bandit over branches.

Within a branch (`branches.py`) all dimensions are numbers in the unit cube. The first trial there
is at the defaults, which are also the strategy's first mean: the prior. Its step size is the
strength of the prior, and adapts: a wrong prior is left within a few generations. Places beyond an
edge are drawn again or turned back. Points that others chose count in the generation that is being
filled, where the engine can take them.

    cma_es          full covariance (Hansen 2016, arXiv:1604.00772); :lr_adapt for noise
    sep_cma_es      variances only: more than twenty dimensions (Ros and Hansen 2008)
    cma_es_margin   whole numbers keep a chance to change (Hamano et al. 2022, arXiv:2205.13482)
    ma_es           as cma_es (ours), lm_ma_es: a hundred dimensions and more (ours)

Engines but the last two are those of the package `cmaes`. Few trials a branch teach an evolution
strategy little: it wants hundreds of cheap ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cmaes
import numpy as np

from automl.search.paired import Suggestion
from automl.search.samplers.branches import Branch, Branches
from automl.search.samplers.evolution_strategies import LmMaEs, MaEs
from automl.search.samplers.generations import Engine, Generations
from automl.space.ranges import Choice, Float, Range, Value
from automl.space.tree import Dimension, Point, Space

KINDS = ("cma_es", "sep_cma_es", "cma_es_margin", "ma_es", "lm_ma_es")
_DRAWS = 8  # before a point is taken that was tried already


class CmaSampler:
    """One engine of `kind` for every branch of the space that is tried.

    `restart`: what happens when one has come to rest, see `generations.py`. `sigma`: first step
    size in unit cubes.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        kind: str = "cma_es",
        restart: str = "same",
        lr_adapt: bool = False,
        sigma: float = 0.3,
    ) -> None:
        self._space, self._seed, self._kind = space, seed, kind
        self._restart, self._lr_adapt, self._sigma = restart, lr_adapt, sigma
        self._branches = Branches(space, seed=seed)
        self._evolving: dict[Branch, Generations] = {}
        self._seen: set[tuple[tuple[str, Value], ...]] = set()

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed."""
        branch = self._branches.choose(fixed)
        point = self._space.complete({**dict(branch), **fixed})
        if branch not in self._evolving:  # the prior's point first
            self.adopt(trial, point)
            return Suggestion(point)
        evolving = self._evolving[branch]
        dimensions = self._branches.dimensions(branch)
        raw = None
        for _ in range(_DRAWS if dimensions else 0):
            place, raw = evolving.engine.ask()
            drawn = {d.name: d.range.decode(u) for d, u in zip(dimensions, place, strict=False)}
            point = self._space.complete({**dict(branch), **drawn, **fixed})
            if tuple(point.items()) not in self._seen:
                break
        if any(d.name in fixed for d in dimensions):
            raw = evolving.engine.foreign(_places(dimensions, point))
        self._begin(trial, point, raw)
        return Suggestion(point)

    def adopt(self, trial: int, point: Point) -> None:
        branch = self._branches.of(point)
        dimensions = self._branches.dimensions(branch)
        if branch not in self._evolving:
            self._evolving[branch] = self._new(dimensions, len(self._evolving))
        raw = self._evolving[branch].engine.foreign(_places(dimensions, point))
        self._begin(trial, point, raw if dimensions else None)

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        branch = self._branches.observe(trial, loss)
        if branch is not None:
            self._evolving[branch].observe(trial, loss)

    def _begin(self, trial: int, point: Point, raw: Any) -> None:
        self._seen.add(tuple(point.items()))
        self._evolving[self._branches.began(trial, point)].began(trial, raw)

    def _new(self, dimensions: Sequence[Dimension], number: int) -> Generations:
        defaults = _places(dimensions, {d.name: d.range.default for d in dimensions})
        steps = np.array([_step(d.range) for d in dimensions] + [0.0] * (2 - len(dimensions)))

        def start(
            *, mean: np.ndarray | None, sigma: float, seed: int, population_size: int | None
        ) -> Engine:
            return _engine(
                self._kind,
                defaults if mean is None else mean,
                sigma,
                steps,
                seed=seed,
                population_size=population_size,
                lr_adapt=self._lr_adapt,
            )

        seed = int(np.random.default_rng([self._seed, 9, number]).integers(2**31))
        return Generations(
            start, len(defaults), sigma=self._sigma, seed=seed, restart=self._restart
        )


class _Cube:
    """An engine of the package or ours, between the edges of the unit cube."""

    def __init__(self, inner: Any, *, takes: bool, two: bool = False) -> None:
        self._inner, self._takes, self._two = inner, takes, two

    @property
    def population_size(self) -> int:
        return int(self._inner.population_size)

    def ask(self) -> tuple[np.ndarray, np.ndarray]:
        asked = self._inner.ask()
        place, raw = asked if self._two else (asked, asked)
        return 1 - np.abs(1 - np.abs(place) % 2), raw  # turned back at the edges

    def tell(self, solutions: Sequence[tuple[np.ndarray, float]]) -> None:
        self._inner.tell(list(solutions))

    def foreign(self, place: np.ndarray) -> np.ndarray | None:
        return place if self._takes else None

    def should_stop(self) -> bool:
        return bool(self._inner.should_stop())


def _engine(
    kind: str,
    mean: np.ndarray,
    sigma: float,
    steps: np.ndarray,
    *,
    seed: int,
    population_size: int | None,
    lr_adapt: bool,
) -> Engine:
    if kind == "ma_es":
        inner = MaEs(mean, sigma, seed=seed, population_size=population_size, cube=True)
        return _Cube(inner, takes=False)
    if kind == "lm_ma_es":  # in a hundred dimensions no draw lies between all edges
        few = LmMaEs(mean, sigma, seed=seed, population_size=population_size)
        return _Cube(few, takes=False)
    common: dict[str, Any] = {
        "mean": mean,
        "sigma": sigma,
        "bounds": np.array([[0.0, 1.0]] * len(mean)),
        "seed": seed,
        "population_size": population_size,
    }
    if kind == "sep_cma_es":
        return _Cube(cmaes.SepCMA(**common), takes=True)
    if kind == "cma_es_margin" and steps.any():
        # From the middle of the first interval to that of the last: `steps` counts from there.
        common["bounds"] = np.stack([steps / 2, 1 - steps / 2], axis=1)
        return _Cube(cmaes.CMAwM(steps=steps, **common), takes=True, two=True)
    # Learning rates adapt to the noise of moves: a generation that moves nothing would divide by 0.
    return _Cube(cmaes.CMA(lr_adapt=lr_adapt, **common), takes=not lr_adapt)


def _places(dimensions: Sequence[Dimension], point: Point) -> np.ndarray:
    """Places in the unit cube [max(d, 2)]: engines want two dimensions; a second one is idle."""
    found = [d.range.encode(point[d.name]) for d in dimensions]
    return np.array(found + [0.5] * (2 - len(found)))


def _step(range_: Range) -> float:
    """Width of a value's interval in the unit cube; 0 where values are real or on a log scale."""
    if isinstance(range_, Choice):
        return 1 / len(range_.options)
    if isinstance(range_, Float) or range_.log:
        return 0.0
    return 1 / (range_.high - range_.low + 1)
