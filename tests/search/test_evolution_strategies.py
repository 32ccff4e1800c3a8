"""MA-ES and LM-MA-ES by known counts, generations out of order, restarts, branches, priors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cmaes
import numpy as np
import pytest

from automl.search.samplers.branches import Branches
from automl.search.samplers.catcma import CatCmaSampler
from automl.search.samplers.cma import KINDS, CmaSampler
from automl.search.samplers.evolution_strategies import LmMaEs, MaEs
from automl.search.samplers.generations import Generations, Raw
from automl.space.ranges import Choice, Float
from automl.space.tree import Space

from .search_problems import SPACE, error


def sphere(x: np.ndarray) -> float:
    return float(x @ x)


def ellipsoid(x: np.ndarray) -> float:
    return float((10 ** (6 * np.arange(len(x)) / (len(x) - 1)) * x * x).sum())


@pytest.mark.parametrize(
    ("kind", "n", "loss", "evaluations"),
    [
        (MaEs, 10, sphere, 1730),
        (MaEs, 10, ellipsoid, 4450),
        (LmMaEs, 10, sphere, 1710),
    ],
)
def test_evaluations_to_the_target(
    kind: type[MaEs] | type[LmMaEs],
    n: int,
    loss: Callable[[np.ndarray], float],
    evaluations: int,
) -> None:
    strategy = kind(np.full(n, 3.0), 2.0, seed=0)
    used, best = 0, math.inf
    while best > 1e-10 and used < 2 * evaluations:
        points = [strategy.ask() for _ in range(strategy.population_size)]
        told = [(x, loss(x)) for x in points]
        strategy.tell(told)
        used += len(told)
        best = min(best, *(value for _, value in told))
    assert used == pytest.approx(evaluations, rel=0.1)


class _Counting:
    """An engine that notes what it is told, and rests after two generations."""

    def __init__(self, population_size: int, mean: np.ndarray | None, sigma: float) -> None:
        self.population_size, self.mean, self.sigma = population_size, mean, sigma
        self.told: list[list[tuple[Raw, float]]] = []

    def ask(self) -> tuple[np.ndarray, Raw]:
        return np.zeros(2), "mine"

    def tell(self, solutions: Sequence[tuple[Raw, float]]) -> None:
        self.told.append(list(solutions))

    def foreign(self, place: np.ndarray) -> Raw | None:
        return None

    def should_stop(self) -> bool:
        return len(self.told) == 2


def _counted(restart: str) -> tuple[Generations, list[_Counting]]:
    made: list[_Counting] = []

    def start(
        *, mean: np.ndarray | None, sigma: float, seed: int, population_size: int | None
    ) -> _Counting:
        made.append(_Counting(population_size or 4, mean, sigma))
        return made[-1]

    return Generations(start, 2, sigma=0.3, seed=0, restart=restart), made


def test_results_in_any_order_make_whole_generations_and_failures_are_the_worst() -> None:
    generations, (engine,) = _counted("same")
    for trial in range(6):
        generations.began(trial, f"raw {trial}")
    for trial, loss in ((5, 0.5), (0, math.inf), (3, 0.1)):
        generations.observe(trial, loss)
    assert not engine.told
    generations.observe(3, 0.2)  # trained on: a better value of the same trial
    generations.observe(2, 0.9)
    assert engine.told == [[("raw 5", 0.5), ("raw 0", 1.9), ("raw 3", 0.2), ("raw 2", 0.9)]]


@pytest.mark.parametrize(("restart", "sizes"), [("same", [4, 4, 4, 4]), ("ipop", [4, 8, 16, 32])])
def test_restarts_begin_elsewhere_with_a_population_by_their_rule(
    restart: str, sizes: list[int]
) -> None:
    generations, made = _counted(restart)
    for trial in range(2 * sum(sizes) - 1):
        generations.began(trial, trial)
        generations.observe(trial, float(trial))
    assert [e.population_size for e in made] == sizes
    assert made[0].mean is None
    assert all(e.mean is not None for e in made[1:])


def test_bipop_gives_small_and_large_populations_about_the_same() -> None:
    generations, made = _counted("bipop")
    for trial in range(3000):
        generations.began(trial, trial)
        generations.observe(trial, float(trial))
    large = [e for e in made if e.sigma == 0.3]
    small = [e for e in made if e.sigma < 0.3]
    assert [e.population_size for e in large] == [4 * 2**i for i in range(len(large))]
    assert len(small) > len(large) > 3
    assert all(4 <= e.population_size <= large[-1].population_size / 2 for e in small)


@pytest.mark.parametrize(("kind", "make"), [("cma_es", cmaes.CMA), ("sep_cma_es", cmaes.SepCMA)])
def test_points_are_those_of_the_package_after_the_default(kind: str, make: Any) -> None:
    n, seed = 4, 3
    optimum = np.array([0.3, 0.45, 0.6, 0.7])
    space = Space({f"x{i}": Float(0.0, 1.0, default=0.5) for i in range(n)})
    sampler = CmaSampler(space, seed=seed, kind=kind, sigma=0.1)
    first = int(np.random.default_rng([seed, 9, 0]).integers(2**31))
    engine = make(mean=np.full(n, 0.5), sigma=0.1, bounds=np.array([[0.0, 1.0]] * n), seed=first)
    trial = 0
    for generation in range(40):
        told = []
        for member in range(engine.population_size):
            x = np.full(n, 0.5) if generation == member == 0 else engine.ask()
            point = [float(str(v)) for v in sampler.suggest(trial).point.values()]
            assert point == [float(f"{v:.6g}") for v in x]
            told.append((x, sphere(np.array(point) - optimum)))
            sampler.observe(trial, told[-1][1])
            trial += 1
        engine.tell(told)
    assert told[-1][1] < 1e-5


def test_branches_are_opened_with_the_trials_and_the_good_ones_get_more() -> None:
    branches = Branches(SPACE, seed=0)
    rng = np.random.default_rng(0)
    drawn = []
    for trial in range(120):
        branch = branches.choose({})
        drawn.append(branch)
        free = {d.name: d.range.decode(rng.random()) for d in branches.dimensions(branch)}
        point = SPACE.complete({**dict(branch), **free})
        branches.began(trial, point)
        branches.observe(trial, error(point))
    assert drawn[0] == branches.of(SPACE.default())
    assert len(set(drawn[:4])) > 1
    late = [dict(b)["optimizer"] for b in drawn[60:]]
    assert late.count("sgd") > 0.6 * len(late)


def test_a_branch_fixes_what_opens_others_and_leaves_numbers_free() -> None:
    branches = Branches(SPACE, seed=0)
    branch = branches.of(SPACE.default())
    assert dict(branch) == {"optimizer": "adamw", "schedule": "cosine"}
    names = [d.name for d in branches.dimensions(branch)]
    assert names == ["optimizer.adamw.lr", "optimizer.adamw.wd", "batch_size", "model.depth"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_prior_is_left(kind: str) -> None:
    # The prior, which is also the first mean, stands in the worst corner.
    corner = Space({n: Float(0.0, 1.0, default=0.02) for n in ("a", "b", "c")})
    sampler = CmaSampler(corner, seed=0, kind=kind, sigma=0.1)
    losses = []
    for trial in range(200):
        point = sampler.suggest(trial).point
        off = [float(v) - 0.9 for v in point.values()]  # type: ignore[arg-type]
        losses.append(sum(x * x for x in off))
        sampler.observe(trial, losses[-1])
    assert losses[0] == pytest.approx(3 * 0.88**2)
    assert min(losses) < 0.01


def test_the_first_trial_of_every_branch_is_at_its_defaults() -> None:
    space = Space({"o": Choice({"a": {"x": Float(0.0, 1.0, default=0.7)},
                                "b": {"x": Float(0.0, 1.0, default=0.2)}})})  # fmt: skip
    sampler = CmaSampler(space, seed=0)
    seen: dict[object, object] = {}
    for trial in range(12):
        point = sampler.suggest(trial).point
        seen.setdefault(point["o"], point[f"o.{point['o']}.x"])
        sampler.observe(trial, 0.1)
    assert seen == {"a": 0.7, "b": 0.2}


def test_catcma_begins_as_wide_as_its_step_size_also_from_an_edge() -> None:
    space = Space({"x": Float(0.0, 1.0, default=0.5), "edge": Float(0.0, 1.0, default=0.0)})
    sampler = CatCmaSampler(space, seed=0, sigma=0.3)
    drawn = [sampler.suggest(trial).point for trial in range(200)]
    x, edge = (np.array([p[n] for p in drawn], dtype=float) for n in ("x", "edge"))
    assert x.std() == pytest.approx(0.3, abs=0.05)  # a few lie on the edges
    assert np.quantile(edge, 0.75) == pytest.approx(0.3 * 0.674, abs=0.05)
