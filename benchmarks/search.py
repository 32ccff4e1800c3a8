"""How good the strategies are, on recorded trainings, beside other people's.

    python benchmarks/search.py --data ../shared/data --fulls 20 50 --seeds 3
    python benchmarks/search.py --data ... --peers optuna-tpe smac --workers 8 --plot regret.svg

Our strategies begin with the space's default. "auto+portfolio" (LCBench) is given eight points
learnt, as `--warm-start` learns them, from one study of --experience trainings by `gp` on each of
the other public tasks, never from the task itself. Peers: `benchmarks/search_peers.py`
(pip install -e '.[bench,nevergrad,peers]').
Regret % = 100 (best known - found) / (best known - median of random points); found is the best
validation score of any evaluation paid for; with several workers all that was evaluated until
then counts, in the order of the recorded seconds. The first peer is what others are compared
with, run by run; ranks are over all that were run, 1 the best. Intervals are bootstrapped over
tasks, 95 %.

--keep FILE takes from the file the runs that are there and adds those that are not, a line each:
tables of many days' runs, or of several processes', come from one call.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from made_up import HALF_A, HALF_B, made_up
from recorded import TABLES, TASKS, Problem, experience, lcbench, table
from search_peers import PEERS, drive

from automl.executors.simulated import Simulated
from automl.records import Pack, Segment
from automl.search.learnt import Experience, learnt
from automl.search.strategy import default_fidelity, make_strategy

SETS = {
    "lcbench": TASKS,
    "tables": TABLES,
    "made-up-a": HALF_A,
    "made-up-b": HALF_B,
}
Run = tuple[str, str, int, int, int]  # task, name, seed, workers, full trainings


def run(problem: Problem, name: str, *, fulls: int, seed: int, workers: int) -> np.ndarray:
    """Best score after each full training paid for, [fulls]."""
    if name in PEERS:
        peer = PEERS[name](problem, fulls, seed, workers)
        return drive(problem, peer, fulls=fulls, workers=workers)
    with_portfolio = name.endswith("+portfolio")
    strategy = make_strategy(
        name.removesuffix("+portfolio"),
        problem.space,
        fidelity=default_fidelity(problem.steps, 1),
        direction="maximize",
        seed=seed,
        workers=workers,
        budget=float(fulls),
        portfolio=problem.portfolio if with_portfolio else None,
    )
    executor = Simulated(problem.measure, workers=workers)
    seen: list[tuple[float, float]] = []  # when, score
    running: dict[int, Segment] = {}
    while len(seen) < fulls * problem.steps or running:
        asked = strategy.ask(executor.capacity) if len(seen) < fulls * problem.steps else []
        for segment in asked:
            running[segment.trial] = segment
            executor.submit(Pack((segment,), ""))
        for report in executor.reports():
            segment = running.pop(report.trial)
            seconds = problem.curve(segment.recipe.point)[1]
            ends = executor.now + seconds - seconds[report.reached - 1]
            values = {step: m["val/score"] for step, m in report.curve}
            seen += [(float(ends[step - 1]), value) for step, value in values.items()]
            strategy.tell(segment, values, seconds=report.seconds)
    in_time = [score for _, score in sorted(seen, key=lambda each: each[0])]
    best = np.maximum.accumulate(in_time)
    return best[problem.steps - 1 :: problem.steps][:fulls]


class Kept:
    """Runs that are done, in a file of lines; without one they are only remembered."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._runs: dict[Run, tuple[list[float], float]] = {}
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                *key, best, seconds = json.loads(line)
                self._runs[tuple(key)] = best, seconds

    def get(self, key: Run) -> tuple[list[float], float] | None:
        return self._runs.get(key)

    def add(self, key: Run, best: list[float], seconds: float) -> None:
        self._runs[key] = best, seconds
        if self._file is not None:
            with self._file.open("a") as lines:
                lines.write(json.dumps([*key, best, seconds]) + "\n")


def interval(by_task: np.ndarray, *, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over tasks; by_task [tasks, seeds]."""
    rng = np.random.default_rng(0)
    means = by_task.mean(axis=1)
    picks = rng.integers(0, len(means), (draws, len(means)))
    low, high = np.quantile(means[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def ranks(regret: np.ndarray) -> np.ndarray:
    """Rank [names, tasks, seeds] of each name in each run, 1 the best; equals share theirs."""
    below = (regret[:, None] > regret[None]).sum(axis=1)
    equal = (regret[:, None] == regret[None]).sum(axis=1)
    shared: np.ndarray = below + (equal + 1) / 2
    return shared


def print_tables(names: Sequence[str], regret: np.ndarray, fulls: Sequence[int]) -> None:
    """`regret` [names, tasks, seeds, full trainings]."""
    for budget in fulls:
        now = regret[:, :, :, min(budget, regret.shape[3]) - 1]
        placed = ranks(now)
        print(f"\nafter {budget} full trainings   regret %         minus {names[0]:16}  mean rank")
        for i in np.argsort(now.mean(axis=(1, 2)), kind="stable").tolist():
            low, high = interval(now[i])
            worse, better = interval(now[i] - now[0])
            one, other = interval(placed[i])
            print(
                f"{names[i]:24} {now[i].mean():5.1f} [{low:5.1f},{high:5.1f}]"
                f"   {(now[i] - now[0]).mean():+6.1f} [{worse:+6.1f},{better:+6.1f}]"
                f"   {placed[i].mean():4.1f} [{one:4.1f},{other:4.1f}]"
            )


def draw(names: Sequence[str], regret: np.ndarray, file: Path) -> None:
    """Mean regret over full trainings, with the interval of our best and the first peer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    ax = figure.subplots()
    spent = np.arange(1, regret.shape[3] + 1)
    for i, name in enumerate(names):
        (line,) = ax.plot(spent, regret[i].mean(axis=(0, 1)), label=name, lw=1.6)
        if i == 0 or name.startswith("auto"):
            band = np.array([interval(regret[i, :, :, k]) for k in range(len(spent))])
            ax.fill_between(spent, band[:, 0], band[:, 1], color=line.get_color(), alpha=0.12, lw=0)
    ax.set_yscale("log")
    ax.set_xlabel("full trainings paid for")
    ax.set_ylabel("regret, % (100: median random point, 0: best known)")
    ax.grid(alpha=0.25, which="both")
    ax.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--on", choices=tuple(SETS), default="lcbench")
    parser.add_argument("--fulls", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="in virtual time")
    parser.add_argument("--strategies", nargs="+", default=["random", "tpe", "asha", "auto"])
    parser.add_argument("--peers", nargs="*", default=["optuna-tpe"], choices=tuple(PEERS))
    parser.add_argument("--experience", type=int, default=40, help="trainings of each other task")
    parser.add_argument("--tasks", nargs="+", help="only these of them")
    parser.add_argument("--keep", type=Path, help="file of runs: what is there is not run again")
    parser.add_argument("--plot", type=Path, help="draw regret over full trainings into this file")
    args = parser.parse_args()

    @cache
    def elsewhere(task: str) -> Experience:
        return experience(lcbench(args.data, task), args.experience)

    @cache
    def make(task: str) -> Problem:
        if args.on.startswith("made-up"):
            return made_up(task)
        return (table if args.on == "tables" else lcbench)(args.data, task)

    def begun(task: str) -> Problem:
        problem = make(task)
        if not problem.portfolio:
            every = json.loads((args.data / "lcbench/meta.json").read_text())["tasks"]
            others = [elsewhere(other) for other in every if other != task]
            problem.portfolio = learnt(problem.space, others)
        return problem

    kept = Kept(args.keep)
    tasks = [(j, t) for j, t in enumerate(SETS[args.on]) if not args.tasks or t in args.tasks]
    names = [*args.peers, *args.strategies]
    longest = max(args.fulls)
    regret = np.zeros((len(names), len(tasks), args.seeds, longest))
    seconds = np.zeros(len(names))
    for place, (j, task) in enumerate(tasks):
        for i, name in enumerate(names):
            for s in range(args.seeds):  # seeds differ between tasks, or all would share their luck
                key = task, name, 100 * j + s, args.workers, longest
                if kept.get(key) is None:
                    problem = begun(task) if name.endswith("+portfolio") else make(task)
                    at = time.process_time()
                    best = run(problem, name, fulls=longest, seed=key[2], workers=args.workers)
                    took = time.process_time() - at
                    kept.add(key, [problem.truth.get(b, b) for b in best.tolist()], took)
                scores, took = kept.get(key) or ([], 0.0)
                regret[i, place, s] = np.pad(scores, (0, longest - len(scores)), mode="edge")
                seconds[i] += took
        known = max(make(task).best, float(regret[:, place].max()))
        regret[:, place] = 100 * (known - regret[:, place]) / (known - make(task).median)
    print(f"{args.on}: {len(tasks)} tasks x {args.seeds} seeds, {args.workers} worker(s)")
    print_tables(names, regret, args.fulls)
    runs = len(tasks) * args.seeds
    print(
        "\nCPU s a run: "
        + ", ".join(f"{n} {s / runs:.2f}" for n, s in zip(names, seconds, strict=True))
    )
    if args.plot is not None:
        draw(names, regret, args.plot)


if __name__ == "__main__":
    main()
