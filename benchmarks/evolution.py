"""Evolution strategies: evaluations to a target, ours beside the packages cmaes and pycma.

    python benchmarks/evolution.py --seeds 5            needs pycma: pip install -e '.[bench]'

In the box [0, 1]^n, optimum at 0.7, from the centre with sigma 0.3; f < 1e-8 ends a run. `cma_es`
and `ma_es` are driven as a study drives them: through points of a Space, six digits a value, one
branch. The packages get the same rounded values. Runs that fail (more than --most evaluations) are
counted, not averaged.
The functions are three of BBOB's kinds (separable, badly scaled, curved), not its
instances: neither ioh nor coco-experiment is used.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable

import cma
import cmaes
import numpy as np

from automl.search.samplers.cma import CmaSampler
from automl.search.samplers.evolution_strategies import LmMaEs
from automl.space.ranges import Float
from automl.space.tree import Space

TARGET = 1e-8
Loss = Callable[[np.ndarray], float]


def sphere(x: np.ndarray) -> float:
    return float(x @ x)


def ellipsoid(x: np.ndarray) -> float:
    return float((10 ** (6 * np.arange(len(x)) / (len(x) - 1)) * x * x).sum())


def rosenbrock(x: np.ndarray) -> float:
    y = x + 1
    return float((100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2).sum())


FUNCTIONS = {"sphere": sphere, "ellipsoid": ellipsoid, "rosenbrock": rosenbrock}


def in_box(loss: Loss) -> Loss:
    """`loss` with its optimum at 0.7, the box ten wide, on values of six digits."""

    def rounded(u: np.ndarray) -> float:
        values = np.array([float(f"{v:.6g}") for v in np.clip(u, 0, 1)])
        return loss(10 * (values - 0.7))

    return rounded


def ours(kind: str, loss: Loss, n: int, seed: int, most: int) -> int:
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(n)})
    sampler = CmaSampler(space, seed=seed, kind=kind)
    for trial in range(most):
        point = sampler.suggest(trial).point
        value = loss(np.array(list(point.values()), dtype=float))
        if value < TARGET:
            return trial + 1
        sampler.observe(trial, value)
    return 0


def package(loss: Loss, n: int, seed: int, most: int) -> int:
    bounds = np.array([[0.0, 1.0]] * n)
    engine = cmaes.CMA(mean=np.full(n, 0.5), sigma=0.3, bounds=bounds, seed=seed)
    used = 0
    while used < most:
        told = []
        for _ in range(engine.population_size):
            x = engine.ask()
            told.append((x, loss(x)))
            used += 1
            if told[-1][1] < TARGET:
                return used
        engine.tell(told)
    return 0


def pycma(loss: Loss, n: int, seed: int, most: int) -> int:
    options = {"seed": seed + 1, "verbose": -9, "bounds": [0, 1], "tolflatfitness": 100}
    engine = cma.CMAEvolutionStrategy([0.5] * n, 0.3, options)
    used = 0
    while used < most and not engine.stop():
        points = engine.ask()
        values = []
        for x in points:
            values.append(loss(np.asarray(x)))
            used += 1
            if values[-1] < TARGET:
                return used
        engine.tell(points, values)
    return 0


def high(n: int, seed: int, most: int) -> int:
    """LM-MA-ES on the sphere as in its paper: from 3 with sigma 2, to 1e-10."""
    engine = LmMaEs(np.full(n, 3.0), 2.0, seed=seed)
    used = 0
    while used < most:
        told = [(x, sphere(x)) for x in (engine.ask() for _ in range(engine.population_size))]
        engine.tell(told)
        used += len(told)
        if min(value for _, value in told) < 1e-10:
            return used
    return 0


def row(name: str, runs: list[int], reference: float | None) -> float:
    reached = [r for r in runs if r]
    mean = statistics.fmean(reached) if reached else math.nan
    ratio = f"{mean / reference:7.2f}" if reference else " " * 7
    spread = statistics.stdev(reached) if len(reached) > 1 else 0.0
    print(
        f"  {name:10} {mean:9.0f} +- {spread:6.0f} {ratio}   {len(reached)}/{len(runs)}", flush=True
    )
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--most", type=int, default=20000, help="evaluations a run")
    parser.add_argument("--high", type=int, nargs="*", default=[100, 1000])
    args = parser.parse_args()
    seeds = range(args.seeds)
    for n in args.dimensions:
        for name, plain in FUNCTIONS.items():
            loss = in_box(plain)
            print(f"{name}, n = {n}: evaluations, ratio to cmaes, runs that reached {TARGET:g}")
            reference = row("cmaes", [package(loss, n, s, args.most) for s in seeds], None)
            row("pycma", [pycma(loss, n, s, args.most) for s in seeds], reference)
            for kind in ("cma_es", "ma_es"):
                row(kind, [ours(kind, loss, n, s, args.most) for s in seeds], reference)
    for n in args.high:
        print(f"sphere, n = {n}, unbounded: evaluations to 1e-10")
        row("lm_ma_es", [high(n, s, 20 * args.most) for s in seeds][: 1 if n > 500 else None], None)


if __name__ == "__main__":
    main()
