"""Evolution strategies on the 24 functions of BBOB, ours beside the packages cmaes and pycma.

    python benchmarks/evolution.py                needs ioh and pycma: pip install -e '.[bench]'

Ours are driven as a study drives them: through points of a Space, one branch, restarts from random
places. The package cmaes gets the same rounded values (six digits), the same start (the middle of
the box, a step of 0.3 of its width), the same seeds and the same places to restart from, so that
runs are pairs. All that is left to tell `cma_es` from it should be that a study begins with the
default, which counts in the first generation, and does not try a point twice. `cmaes+default` does
the first, too, and the last column says what share of evaluations then comes before the first one
in which a run of ours differs from it.

Run i is on instance i of each function (shifted, turned), with seed i. Of every target the expected
running time is taken,

    ERT = evaluations of all runs until they reached it or ended / runs that reached it

and the ratio of two strategies' ERT over all (function, target) that both reached at least once,
and neither ever at its first evaluation, which would measure the start: its geometric mean over
functions, with a 95 % interval bootstrapped over runs (pairs of them where seeds are shared).
`sep_cma_es` is compared with cmaes.SepCMA, the others with cmaes.CMA. Source: Hansen et al. 2021,
arXiv:1603.08785 (COCO).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
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


def package(
    make: Callable[..., Asked], loss: Loss, n: int, seed: int, *, default: bool
) -> Iterator[float]:
    """`default`: the first of all points is the mean itself, told with the first generation."""
    first = int(np.random.default_rng([seed, 9, 0]).integers(2**31))  # as CmaSampler's first branch
    rng = np.random.default_rng([first, 7])  # as Generations
    mean = np.full(n, 0.5)
    for run in range(10**6):
        bounds = np.array([[0.0, 1.0]] * n)
        engine = make(mean=mean, sigma=0.3, bounds=bounds, seed=first + run)
        ready = [mean] if default and run == 0 else []
        while not engine.should_stop():
            told = []
            for _ in range(engine.population_size):
                x = ready.pop() if ready else engine.ask()
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


NAMES = (
    "cmaes", "cmaes+default", "pycma", "cma_es", "ma_es", "lm_ma_es", "catcma",
    "cmaes-sep", "cmaes-sep+default", "sep_cma_es",
)  # fmt: skip
REFERENCE = {"sep_cma_es": "cmaes-sep", "cmaes-sep+default": "cmaes-sep"}
TWIN = {"cma_es": "cmaes+default", "sep_cma_es": "cmaes-sep+default"}


def losses(name: str, loss: Loss, n: int, seed: int) -> Iterator[float]:
    if name == "pycma":
        return pycma(loss, n, seed)
    if name.startswith("cmaes"):
        make = cmaes.SepCMA if "-sep" in name else cmaes.CMA
        return package(make, loss, n, seed, default=name.endswith("+default"))
    return ours(name, loss, n, seed)


def trace(values: Iterator[float], most: int) -> np.ndarray:
    """Losses of a run, up to the one that reached the last target."""
    found = []
    for value in islice(values, most):
        found.append(value)
        if value <= TARGETS[-1]:
            break
    return np.array(found)


def hits(values: np.ndarray) -> np.ndarray:
    """Evaluations until each target was reached, inf if it was not, [targets]."""
    reached = values[:, None] <= TARGETS
    found: np.ndarray = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1.0, np.inf)
    return found


def ert(found: np.ndarray, most: int) -> np.ndarray:
    """Expected running time [functions, targets] of hits [functions, runs, targets]."""
    reached = np.isfinite(found).sum(axis=1)
    spent = np.minimum(found, most).sum(axis=1)
    times: np.ndarray = np.where(reached > 0, spent / np.maximum(reached, 1), np.inf)
    return times


def slower(mine: np.ndarray, theirs: np.ndarray, most: int, counts: np.ndarray) -> float:
    """Geometric mean over functions of the ratio of ERT, of hits [functions, runs, targets]."""
    a, b = ert(mine, most), ert(theirs, most)
    both = counts & np.isfinite(a) & np.isfinite(b)
    logs = np.log(np.where(both, a, 1.0) / np.where(both, b, 1.0))
    some = both.any(axis=1)
    return float(np.exp((logs[some].sum(axis=1) / both[some].sum(axis=1)).mean()))


def ratio(mine: np.ndarray, theirs: np.ndarray, most: int) -> tuple[float, float, float]:
    """`slower`, and its interval: each function's runs are drawn again, the same of both."""
    counts = np.minimum(mine, theirs).min(axis=1) > 1
    rng = np.random.default_rng(0)
    functions, runs, _ = mine.shape
    row = np.arange(functions)[:, None]
    picks = rng.integers(0, runs, (1000, functions, runs))
    drawn = [slower(mine[row, pick], theirs[row, pick], most, counts) for pick in picks]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return slower(mine, theirs, most, counts), float(low), float(high)


def shared(mine: list[list[np.ndarray]], theirs: list[list[np.ndarray]]) -> float:
    """Share of evaluations before the first one in which a pair of runs differs."""
    same = whole = 0
    for a, b in zip(chain.from_iterable(mine), chain.from_iterable(theirs), strict=True):
        alike = a[: len(b)] == b[: len(a)]
        same += len(alike) if alike.all() else int(alike.argmin())
        whole += len(a)
    return same / whole


def compare(names: Sequence[str], n: int, *, runs: int, most: int, functions: int) -> None:
    print(f"n = {n}: {functions} functions, {runs} runs of {most} evaluations")
    traces: dict[str, list[list[np.ndarray]]] = {}
    found: dict[str, np.ndarray] = {}
    for name in names:
        begun = time.process_time()
        traces[name] = [
            [trace(losses(name, bbob(f, i, n), n, seed=i), most) for i in range(1, runs + 1)]
            for f in range(1, functions + 1)
        ]
        found[name] = np.array([[hits(t) for t in row] for row in traces[name]])
        seconds = time.process_time() - begun
        line = f"  {name:17} targets reached {np.isfinite(found[name]).mean():6.1%}"
        line += f"  CPU {seconds:5.0f} s"
        reference = REFERENCE.get(name, "cmaes")
        if name != reference and reference in found:
            mean, low, high = ratio(found[name], found[reference], most)
            line += f"  ERT / {reference}'s {mean:5.3f} [{low:5.3f}, {high:5.3f}]"
        twin = TWIN.get(name)
        if twin in traces:
            line += f"  the first {shared(traces[name], traces[twin]):.1%} as {twin}"
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
    parser.add_argument("--dimensions", type=int, nargs="*", default=[2, 5, 10, 20])
    parser.add_argument("--functions", type=int, default=24, help="the first so many")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--budget", type=int, default=300, help="evaluations a dimension")
    parser.add_argument("--high", type=int, nargs="*", default=[1000])
    args = parser.parse_args()
    for n in args.dimensions:
        most = args.budget * n
        compare(args.names, n, runs=args.runs, most=most, functions=args.functions)
    for n in args.high:
        print(f"lm_ma_es, sphere, n = {n}, unbounded, to 1e-10: {high(n, 0, 400000)} evaluations")


if __name__ == "__main__":
    main()
