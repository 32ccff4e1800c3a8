"""Several objectives: hypervolume of what a search finds, beside random search and Optuna's.

    python benchmarks/objectives.py --seeds 5 --trials 50 100 300

ZDT1 (a front that bulges to the optimum) and ZDT2 (one that bulges away) in 8 dimensions, ZDT2 with
its optimum moved out of the corner, DTLZ2 with three losses in 6, and ZDT1 where a constraint
forbids the half of its front with a first loss below 0.5.
Ours are driven through the Strategy contract, one worker; Optuna's get the same functions through
ask and tell. A figure is the hypervolume below (1.1, 6), or (2, 2, 2), as a share of that of the
true front, averaged over seeds, with its standard error; random search is the yardstick beside it.
Trials that break the constraint count nothing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna

from automl.aims import Outcome
from automl.search.hypervolume import hypervolume
from automl.search.strategy import make_strategy
from automl.space.ranges import Float
from automl.space.tree import Space

OURS = ("random", "nsga2", "nsga3", "tpe", "auto")
PEERS = ("optuna-random", "optuna-nsga2", "optuna-nsga3", "optuna-tpe", "optuna-gp")


@dataclass(frozen=True)
class Problem:
    """Losses of a place in [0, 1]^d, how far it breaks a constraint, and rows of the front."""

    name: str
    d: int
    losses: Callable[[np.ndarray], tuple[float, ...]]
    front: np.ndarray
    reference: tuple[float, ...]
    violation: Callable[[np.ndarray], float] = lambda x: 0.0


def zdt(kind: int) -> Callable[[np.ndarray], tuple[float, ...]]:
    def losses(x: np.ndarray) -> tuple[float, ...]:
        f, g = float(x[0]), 1 + 9 * float(x[1:].mean())
        return f, g * (1 - (f / g) ** (0.5 if kind == 1 else 2))

    return losses


def shifted(x: np.ndarray) -> tuple[float, ...]:
    """ZDT2 with the optimum of all but the first coordinate at 0.3 instead of in a corner."""
    moved = np.abs(x - 0.3) / 0.7
    moved[0] = x[0]
    return zdt(2)(moved)


def dtlz2(x: np.ndarray) -> tuple[float, ...]:
    a, b = (0.5 * math.pi * float(v) for v in x[:2])
    r = 1 + float(((x[2:] - 0.5) ** 2).sum())
    return r * math.cos(a) * math.cos(b), r * math.cos(a) * math.sin(b), r * math.sin(a)


def _line(kind: int, low: float = 0.0) -> np.ndarray:
    """Places on the front of a ZDT function: all other coordinates 0."""
    found = zdt(kind)
    return np.array([found(np.array([f, 0.0])) for f in np.linspace(low, 1, 4001)])


def _sphere() -> np.ndarray:
    grid = np.linspace(0, 1, 45)
    return np.array([dtlz2(np.array([a, b, 0.5])) for a in grid for b in grid])


PROBLEMS = (
    *(Problem(f"ZDT{k}", 8, zdt(k), _line(k), (1.1, 6.0)) for k in (1, 2)),
    Problem("ZDT2, moved", 8, shifted, _line(2), (1.1, 6.0)),
    Problem("DTLZ2", 6, dtlz2, _sphere(), (2.0, 2.0, 2.0)),
    Problem("ZDT1, x0 >= 0.5", 8, zdt(1), _line(1, 0.5), (1.1, 6.0),
            lambda x: max(0.5 - float(x[0]), 0.0) / 0.5),
)  # fmt: skip

Told = list[tuple[tuple[float, ...], float]]  # losses and violation of each trial


def ours(name: str, problem: Problem, seed: int, trials: int) -> Told:
    space = Space({f"x{i}": Float(0.0, 1.0) for i in range(problem.d)})
    strategy = make_strategy(
        name, space, fidelity=(1, 1, 3), direction=("minimize",) * len(problem.reference),
        seed=seed, budget=float(trials),
    )  # fmt: skip
    told: Told = []
    while len(told) < trials:
        (segment,) = strategy.ask(1)
        x = np.array(list(segment.recipe.point.values()), dtype=float)
        told.append((problem.losses(x), problem.violation(x)))
        strategy.tell(segment, {1: Outcome(*told[-1])})
    return told


def peers(name: str, problem: Problem, seed: int, trials: int) -> Told:
    def broken(trial: optuna.trial.FrozenTrial) -> tuple[float]:
        return (float(trial.user_attrs["violation"]),)

    bound = broken if problem.violation(np.zeros(problem.d)) else None
    kinds = {
        "optuna-random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "optuna-nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed, constraints_func=bound),
        "optuna-nsga3": lambda: optuna.samplers.NSGAIIISampler(seed=seed, constraints_func=bound),
        "optuna-tpe": lambda: optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constraints_func=bound
        ),
        "optuna-gp": lambda: optuna.samplers.GPSampler(seed=seed, constraints_func=bound),
    }
    study = optuna.create_study(
        directions=["minimize"] * len(problem.reference), sampler=kinds[name]()
    )
    told: Told = []
    for _ in range(trials):
        trial = study.ask()
        x = np.array([trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(problem.d)])
        told.append((problem.losses(x), problem.violation(x)))
        trial.set_user_attr("violation", told[-1][1])
        study.tell(trial, list(told[-1][0]))
    return told


def share(problem: Problem, told: Told, trials: int) -> float:
    """Of the true front's hypervolume, in percent."""
    kept = np.array([y for y, violation in told[:trials] if violation <= 0])
    best = hypervolume(problem.front, problem.reference)
    return 100 * hypervolume(kept.reshape(-1, len(problem.reference)), problem.reference) / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--names", nargs="+", default=[*OURS, *PEERS])
    parser.add_argument("--slow", type=int, default=100, help="most trials of auto and optuna-gp")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # Optuna's marks of what is experimental
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for problem in PROBLEMS:
        budgets = "".join(f"{n:>9} trials" for n in args.trials)
        print(f"\n{problem.name}: share of the front's hypervolume, %\n{'':16}{budgets}   ms/ask")
        for name in args.names:
            most = max(args.trials)
            if name in ("auto", "optuna-gp"):
                most = min(most, args.slow)
            search = peers if name.startswith("optuna-") else ours
            began = time.process_time()
            runs = [search(name, problem, seed, most) for seed in range(args.seeds)]
            spent = 1000 * (time.process_time() - began) / most / args.seeds
            cells = []
            for n in args.trials:
                found = [share(problem, told, n) for told in runs]
                error = statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else 0.0
                mean = statistics.fmean(found)
                cells.append(f"{mean:9.1f} ± {error:4.1f}" if n <= most else f"{'-':>16}")
            print(f"{name:16}{''.join(cells)}   {spent:6.1f}", flush=True)


if __name__ == "__main__":
    main()
