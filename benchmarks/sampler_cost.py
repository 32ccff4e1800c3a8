"""What it costs to ask each sampler of the catalogue once it knows 5,000 trials of 40 parameters.

    python benchmarks/sampler_cost.py [--samplers auto tpe cma_es] [--trials 5000]

The sampler suggests and is told every trial itself. If that takes more than --limit CPU seconds,
the others of the history are random points that it adopts and is told; the last --asks are its own
again in any case, and they are what is measured: CPU ms for a suggestion and its result, mean and
maximum. Memory: what a process of its own holds above what it held before the first trial. 24
numbers on a log scale, 10 whole numbers and 6 choices, two of which open four of the numbers.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from automl.search.catalogue import CATALOGUE, Setting, sampler
from automl.space.ranges import Choice, Float, Int, Range
from automl.space.tree import Point, Space


def forty() -> Space:
    rate = Float(1e-5, 1e-1, log=True)
    inner = [{f"x{i}": rate, f"x{i + 1}": rate} for i in (0, 2)]
    ranges: dict[str, Range] = {f"x{i}": rate for i in range(4, 24)}
    ranges |= {f"n{i}": Int(1, 64) for i in range(10)}
    ranges |= {f"c{i}": Choice(["a", "b", "c"]) for i in range(4)}
    ranges |= {f"o{i}": Choice({"plain": {}, "rich": inner[i]}) for i in range(2)}
    return Space(ranges)


def loss(point: Point) -> float:
    numbers = [math.log10(v) + 3 for v in point.values() if isinstance(v, float)]
    whole = [(v - 20) / 64 for v in point.values() if isinstance(v, int)]
    return sum(x * x for x in (*numbers, *whole)) + sum(v == "a" for v in point.values())


def measure(name: str, trials: int, asks: int, limit: float) -> tuple[float, float, float, int]:
    """CPU ms of an ask (mean, maximum), MiB held, and how many trials were its own."""
    space = forty()
    search = sampler(name, Setting(space, seed=0, budget=float(trials)))
    rng = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    own = 0
    costs = []
    for trial in range(trials):
        late = trial >= trials - asks
        if late or time.process_time() - begun < limit:
            own += 1
            at = time.process_time()
            point = search.suggest(trial).point
            search.observe(trial, loss(point))
            if late:
                costs.append(1000 * (time.process_time() - at))
        else:
            point = space.decode(rng.random(len(space)))
            search.adopt(trial, point)
            search.observe(trial, loss(point))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return statistics.fmean(costs), max(costs), held / 1024, own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    same = {"asha", "hyperband", "median"}  # tpe under another rule
    everything = [n for n, entry in CATALOGUE.items() if entry.sampler and n not in same]
    parser.add_argument("--samplers", nargs="+", default=everything)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--asks", type=int, default=20)
    parser.add_argument("--limit", type=float, default=15.0, help="CPU s of suggestions before")
    args = parser.parse_args()
    print(f"{args.trials} trials x {len(forty())} parameters: CPU ms an ask, MiB held, own trials")
    for name in args.samplers:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            work = process.submit(measure, name, args.trials, args.asks, args.limit)
            mean, most, held, own = work.result()
        print(f"{name:24} {mean:8.2f} (max {most:8.2f})  {held:6.1f} MiB  {own:5d}", flush=True)


if __name__ == "__main__":
    main()
