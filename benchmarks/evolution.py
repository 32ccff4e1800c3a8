"""Evolution strategies on the 24 functions of BBOB, ours beside the packages cmaes and pycma.

    python benchmarks/evolution.py                needs ioh and pycma: pip install -e '.[bench]'

Ours are driven as a study drives them: through points of a Space, one branch, restarts from random
places; the packages get the same rounded values (six digits), the same start (the middle of the
box, a step of 0.3 of its width) and the same restarts. Functions come in several instances
(shifted, turned). Of every target the expected running time is taken,

    ERT = evaluations of all runs until they reached it or ended / runs that reached it

and the ratio of two strategies' ERT over all (function, target) that both reached at least once:
its geometric mean, with an interval bootstrapped over functions, 95 %. `sep_cma_es` is compared
with cmaes.SepCMA, the others with cmaes.CMA. Source: Hansen et al. 2021, arXiv:1603.08785 (COCO).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import cma
import cmaes
import ioh
import numpy as np

from automl.search.catalogue import Setting, sampler
from automl.search.samplers.evolution_strategies import LmMaEs
from automl.space.ranges import Float
from automl.space.tree import Space

TARGETS = 10.0 ** np.arange(2, -6, -1)  # above the optimum
Loss = Callable[[np.ndarray], float]


class Asked(Protocol):
    """What this script needs of an engine of the package cmaes."""

    population_size: int

    def ask(self) -> np.ndarray: ...
    def tell(self, solutions: list[tuple[np.ndarray, float]]) -> None: ...
    def should_stop(self) -> bool: ...


def bbob(function: int, instance: int, n: int) -> Loss:
    """BBOB's function over the unit cube, less its optimum; values of six digits."""
    problem = ioh.get_problem(
        function, instance=instance, dimension=n, problem_class=ioh.ProblemClass.BBOB
    )
    best = problem.optimum.y

    def loss(u: np.ndarray) -> float:
        rounded = [float(f"{v:.6g}") for v in np.clip(u, 0, 1)]
        return float(problem(10 * np.array(rounded) - 5) - best)

    return loss


def ours(name: str, loss: Loss, n: int, seed: int) -> Iterator[float]:
    """Losses in the order in which they were asked for."""
    space = Space({f"x{i}": Float(0.0, 1.0, default=0.5) for i in range(n)})
    search = sampler(name, Setting(space, seed=seed))
    trial = 0
    while True:
        point = search.suggest(trial).point
        value = loss(np.array(list(point.values()), dtype=float))
        yield value
        search.observe(trial, value)
        trial += 1


def package(make: Callable[..., Asked], loss: Loss, n: int, seed: int) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    mean = np.full(n, 0.5)
    for run in range(10**6):
        bounds = np.array([[0.0, 1.0]] * n)
        engine = make(mean=mean, sigma=0.3, bounds=bounds, seed=1000 * seed + run)
        while not engine.should_stop():
            told = []
            for _ in range(engine.population_size):
                x = engine.ask()
                told.append((x, loss(x)))
                yield told[-1][1]
            engine.tell(told)
        mean = rng.random(n)


def pycma(loss: Loss, n: int, seed: int) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    mean = np.full(n, 0.5)
    for run in range(10**6):
        options = {"seed": 1000 * seed + run + 1, "verbose": -9, "bounds": [0, 1]}
        engine = cma.CMAEvolutionStrategy(mean, 0.3, options)
        while not engine.stop():
            points = engine.ask()
            values = []
            for x in points:
                values.append(loss(np.asarray(x)))
                yield values[-1]
            engine.tell(points, values)
        mean = rng.random(n)


NAMES = ("cmaes", "cmaes-sep", "pycma", "cma_es", "sep_cma_es", "ma_es", "lm_ma_es", "catcma")
REFERENCE = {"sep_cma_es": "cmaes-sep"}


def losses(name: str, loss: Loss, n: int, seed: int) -> Iterator[float]:
    if name == "pycma":
        return pycma(loss, n, seed)
    if name.startswith("cmaes"):
        return package(cmaes.SepCMA if name == "cmaes-sep" else cmaes.CMA, loss, n, seed)
    return ours(name, loss, n, seed)


def hits(values: Iterator[float], most: int) -> np.ndarray:
    """Evaluations until each target was reached, inf if it was not, [targets]."""
    found = np.full(len(TARGETS), np.inf)
    best = np.inf
    for used in range(1, most + 1):
        value = next(values)
        if value < best:
            best = value
            found[(found == np.inf) & (best <= TARGETS)] = used
            if best <= TARGETS[-1]:
                break
    return found


def ert(found: np.ndarray, most: int) -> np.ndarray:
    """Expected running time [functions, targets] of hits [functions, instances, targets]."""
    reached = np.isfinite(found).sum(axis=1)
    spent = np.minimum(found, most).sum(axis=1)
    times: np.ndarray = np.where(reached > 0, spent / np.maximum(reached, 1), np.inf)
    return times


def ratio(mine: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Geometric mean of the ratio of two ERT [functions, targets], and its interval."""
    both = np.isfinite(mine) & np.isfinite(theirs)
    logs = np.log(np.where(both, mine, 1.0) / np.where(both, theirs, 1.0))
    some = both.any(axis=1)
    by_function = logs[some].sum(axis=1) / both[some].sum(axis=1)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(by_function), (2000, len(by_function)))
    low, high = np.quantile(by_function[picks].mean(axis=1), [0.025, 0.975])
    return float(np.exp(by_function.mean())), float(np.exp(low)), float(np.exp(high))


def compare(names: Sequence[str], n: int, *, instances: int, most: int, functions: int) -> None:
    print(f"n = {n}: {functions} functions, {instances} instances, {most} evaluations a run")
    times = {}
    for name in names:
        begun = time.process_time()
        found = np.array(
            [
                [
                    hits(losses(name, bbob(f, i, n), n, seed=i), most)
                    for i in range(1, instances + 1)
                ]
                for f in range(1, functions + 1)
            ]
        )
        times[name] = ert(found, most)
        seconds = time.process_time() - begun
        line = f"  {name:11} targets reached {np.isfinite(found).mean():6.1%}  CPU {seconds:5.0f} s"
        reference = REFERENCE.get(name, "cmaes")
        if name != reference and reference in times:
            mean, low, high = ratio(times[name], times[reference])
            line += f"  ERT / {reference}'s {mean:5.3f} [{low:5.3f}, {high:5.3f}]"
        print(line, flush=True)


def high(n: int, seed: int, most: int) -> int:
    """LM-MA-ES on the sphere as in its paper: from 3 with sigma 2, to 1e-10."""
    engine = LmMaEs(np.full(n, 3.0), 2.0, seed=seed)
    used = 0
    while used < most:
        told = [(x, float(x @ x)) for x in (engine.ask() for _ in range(engine.population_size))]
        engine.tell(told)
        used += len(told)
        if min(value for _, value in told) < 1e-10:
            return used
    raise RuntimeError(f"LM-MA-ES did not converge in {most} evaluations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 5, 10])
    parser.add_argument("--functions", type=int, default=24, help="the first so many")
    parser.add_argument("--instances", type=int, default=5)
    parser.add_argument("--budget", type=int, default=300, help="evaluations a dimension")
    parser.add_argument("--high", type=int, nargs="*", default=[1000])
    args = parser.parse_args()
    for n in args.dimensions:
        most = args.budget * n
        compare(args.names, n, instances=args.instances, most=most, functions=args.functions)
    for n in args.high:
        print(f"lm_ma_es, sphere, n = {n}, unbounded, to 1e-10: {high(n, 0, 400000)} evaluations")


if __name__ == "__main__":
    main()
