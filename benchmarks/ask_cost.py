"""What it costs to ask each sampler, and to tell it, once it knows 500 and 5,000 trials.

    python benchmarks/ask_cost.py [--samplers auto tpe cma_es] [--trials 500 5000]

Forty parameters: 20 numbers on a log scale, 6 whole numbers, 4 choices, one of which opens five
more numbers or five others. A sampler is told random points until --own trials before the count,
then its own; the last --asks of these are measured: CPU ms for a suggestion and its result, mean
and maximum. Most is done once in a while (a model is fitted anew, a generation turns), so a mean
wants a hundred asks. Those that use rungs are told of trials of which one in three goes on at each;
NSGA is told two losses. Each count is measured in a process of its own; memory is what it holds
above what it held before the first trial. Of Nevergrad's others there are NGOpt, CMA and
TwoPointsDE.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from automl.search.catalogue import CATALOGUE, Setting, sampler
from automl.search.wrapping import ManyLosses
from automl.space.ranges import Choice, Float, Int
from automl.space.tree import Point, Space

SPACE = Space(
    {f"x{i}": Float(1e-4, 1.0, log=True) for i in range(20)}
    | {f"n{i}": Int(1, 64) for i in range(6)}
    | {f"c{i}": Choice(["a", "b", "c"]) for i in range(3)}
    | {"kind": Choice({"a": {f"p{i}": Float(0.0, 1.0) for i in range(5)},
                       "b": {f"q{i}": Float(0.0, 1.0) for i in range(5)}, "c": {}})}
)  # fmt: skip

SAME = ("asha", "hyperband", "median", "nevergrad", "freeze_thaw")  # samplers of others
SAMPLERS = [n for n, entry in CATALOGUE.items() if entry.sampler and n not in SAME]
SAMPLERS += [f"nevergrad:{name}" for name in ("NGOpt", "CMA", "TwoPointsDE")]
RUNGS, SHARES = ("auto", "bohb"), (1 / 9, 1 / 3, 1.0)


def losses(point: Point) -> tuple[float, float]:
    """Two bowls in the numbers, with a step for each choice."""
    places = np.array([SPACE[n].range.encode(v) for n, v in point.items()])
    return float(((places - 0.3) ** 2).mean()), float(((places - 0.6) ** 2).mean())


def measure(name: str, trials: int, own: int, asks: int) -> tuple[float, float, float]:
    """CPU ms of an ask (mean, maximum), and MiB held."""
    setting = Setting(SPACE, (10, 90, 3), seed=0, budget=float(trials), portfolio=[])
    search = sampler(name, setting)
    rng = np.random.default_rng(0)

    def tell(trial: int, point: Point) -> None:
        found = losses(point)
        if name.startswith("nsga") and isinstance(search, ManyLosses):
            search.observe_losses(trial, found, 0.0)
        else:
            come = 3 - (trial % 3 > 0) - (trial % 9 > 0) if name in RUNGS else 0
            shares = SHARES[:come] or (1.0,)
            search.observe(trial, found[0], dict.fromkeys(shares, found[0]))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    costs = []
    for trial in range(trials):
        if trial < trials - own:
            point: Point = SPACE.sample(rng)
            search.adopt(trial, point)
            tell(trial, point)
            continue
        begun = time.process_time()
        point = search.suggest(trial).point
        tell(trial, point)
        costs.append(1000 * (time.process_time() - begun))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    last = costs[-asks:]
    return statistics.fmean(last), max(last), held / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--trials", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--own", type=int, default=300)
    parser.add_argument("--asks", type=int, default=100)
    args = parser.parse_args()
    print(f"{len(SPACE)} parameters: CPU ms an ask (largest), MiB held, after ... trials")
    for name in args.samplers:
        line = f"{name:24}"
        for trials in args.trials:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                work = process.submit(measure, name, trials, args.own, args.asks)
                mean, most, held = work.result()
            line += f"{trials:7}: {mean:6.2f} ms ({most:7.1f}) {held:4.0f} MiB"
        print(line, flush=True)


if __name__ == "__main__":
    main()
