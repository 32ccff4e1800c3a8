"""What `--prior` gives where the defaults are right, and what it costs where they are wrong.

    python benchmarks/priors.py [--names random tpe gp] [--seeds 10] [--trials 8 30]

A bowl of four dimensions: two numbers on a log scale, a whole number and a choice, each scaled to
its range. Right defaults lie near the optimum, wrong ones at the far corner. A figure is the best
loss of all trials but the baseline's, which a right prior knows already; the mean over seeds, for
a prior that is off, weak and strong. One worker, every trial trained to its end.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence

from automl.search.prior import strength
from automl.search.strategy import make_strategy
from automl.space.ranges import Choice, Float, Int
from automl.space.tree import Point, Space

NAMES = ("random", "quasi_random", "tpe", "gp", "auto", "cma_es")
LEVELS = ("off", "weak", "strong")


def bowl(*, right: bool) -> Space:
    return Space(
        {
            "lr": Float(1e-6, 1.0, log=True, default=1e-3 if right else 1e-6),
            "wd": Float(1e-5, 1.0, log=True, default=0.01 if right else 1e-5),
            "batch": Int(8, 1024, log=True, default=64 if right else 1024),
            "act": Choice(["relu", "gelu", "tanh"], default="gelu" if right else "tanh"),
        }
    )


def loss(point: Point) -> float:
    lr, wd, batch = (float(str(point[n])) for n in ("lr", "wd", "batch"))
    numbers = (
        math.log10(lr / 2e-3) / 6,
        math.log10(wd / 0.02) / 5,
        math.log2(batch / 64) / 7,
    )
    return sum(x * x for x in numbers) + 0.1 * (point["act"] != "gelu")


def found(name: str, level: str, *, right: bool, seed: int, trials: Sequence[int]) -> list[float]:
    """The best loss after each number of trials."""
    strategy = make_strategy(
        name, bowl(right=right), fidelity=(1, 1, 3), direction="minimize", seed=seed,
        prior=strength(level),
    )  # fmt: skip
    seen = []
    for _ in range(max(trials)):
        (segment,) = strategy.ask(1)
        seen.append(loss(segment.recipe.point))
        strategy.tell(segment, {1: seen[-1]})
    return [min(seen[1:n]) for n in trials]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, nargs="+", default=[8, 30])
    args = parser.parse_args()
    print(f"best loss under a prior {', '.join(LEVELS)}; {args.seeds} seeds")
    for name in args.names:
        cells: dict[tuple[int, bool], list[float]] = {}
        for right in (True, False):
            for level in LEVELS:
                runs = [
                    found(name, level, right=right, seed=seed, trials=args.trials)
                    for seed in range(args.seeds)
                ]
                for n, best in zip(args.trials, zip(*runs, strict=True), strict=True):
                    cells.setdefault((n, right), []).append(statistics.fmean(best))
        line = f"{name:14}"
        for (n, right), means in sorted(
            cells.items(), key=lambda cell: (cell[0][0], not cell[0][1])
        ):
            words = " ".join(f"{m:.3f}" for m in means)
            line += f"  {n} trials, {'right' if right else 'wrong'}: {words}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
