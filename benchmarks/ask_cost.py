"""What an ask costs after thousands of trials: CPU milliseconds, and memory.

    python benchmarks/ask_cost.py --trials 500 5000 --strategies auto gp tpe random

A space of forty dimensions, ten of them under a choice. Trials up to the count are drawn at random
and adopted; after `WARM` asks, in which models are fitted anew and samplers scatter, `--asks` are
timed, each with its answer: CPU time of this process, though a crowded machine adds to that, too.
Memory: by how much the process has grown at its largest.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from automl.search import catalogue
from automl.search.catalogue import Setting
from automl.space.ranges import Choice, Float, Int
from automl.space.tree import Point, Space

SPACE = Space(
    {f"x{i}": Float(1e-4, 1.0, log=True) for i in range(20)}
    | {f"n{i}": Int(1, 64) for i in range(6)}
    | {f"c{i}": Choice(["a", "b", "c"]) for i in range(3)}
    | {"kind": Choice({"a": {f"p{i}": Float(0.0, 1.0) for i in range(5)},
                       "b": {f"q{i}": Float(0.0, 1.0) for i in range(5)}, "c": {}})}
)  # fmt: skip


WARM = 20


def loss(point: Point) -> float:
    """A bowl in the numbers, with a step for each choice."""
    places = [SPACE[n].range.encode(v) for n, v in point.items()]
    return float(np.mean((np.array(places) - 0.3) ** 2))


def cost(name: str, trials: int, asks: int) -> tuple[float, float]:
    """CPU milliseconds an ask, and MiB, once `trials` are known."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    setting = Setting(SPACE, (10, 90, 3), seed=0, budget=float(trials + asks), portfolio=[])
    sampler = catalogue.sampler(name, setting)
    rng = np.random.default_rng(0)
    for trial in range(trials):
        point = SPACE.sample(rng)
        sampler.adopt(trial, point)
        sampler.observe(trial, loss(point), {1.0: loss(point)})
    begun = 0.0
    for trial in range(trials, trials + WARM + asks):
        if trial == trials + WARM:
            begun = time.process_time()
        found = sampler.suggest(trial)
        sampler.observe(trial, loss(found.point), {1.0: loss(found.point)})
    spent = time.process_time() - begun
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return 1000 * spent / asks, grown / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--asks", type=int, default=50)
    parser.add_argument("--strategies", nargs="+", default=["auto", "gp", "tpe", "random"])
    args = parser.parse_args()
    print(f"{len(SPACE)} dimensions; CPU ms an ask after ... trials")
    for name in args.strategies:
        for trials in args.trials:
            ms, mib = cost(name, trials, args.asks)
            print(f"{name:24} {trials:6} {ms:8.1f} ms  +{mib:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
