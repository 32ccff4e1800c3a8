"""How good the strategies are, on recorded trainings, beside Optuna's TPE.

    python benchmarks/search.py --data ../shared/data --fulls 20 50 --seeds 3

LCBench (needs onnxruntime: pip install -e '.[bench]'): a surrogate of 52-epoch trainings in
virtual time. Tables: complete grids, one full training a cell, so samplers alone are compared.
Our strategies begin with the space's default. "auto+portfolio" (LCBench) is given eight points
learnt, as `--warm-start` learns them, from one study of --experience trainings by `gp` on each of
the other public tasks, never from the task itself.
Regret % = 100 (best known - found) / (best known - median of random points); found is the best
validation score of any evaluation paid for. Intervals are bootstrapped over tasks, 95 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl.executors.simulated import Simulated
from automl.recipe import Recipe
from automl.records import Pack
from automl.search.learnt import Experience, learnt
from automl.search.strategy import default_fidelity, make_strategy
from automl.space.ranges import Choice, Float, Int, Range
from automl.space.tree import Point, Space

TASKS = ("7593", "126026", "167104", "167168", "167185", "168330", "168910", "189908")
TABLES = (
    "hpobench_mlp__australian",
    "hpobench_mlp__car",
    "hpobench_mlp__phoneme",
    "hpolib__parkinsons_telemonitoring",
    "hpolib__protein_structure",
    "nasbench201__cifar10",
)


@dataclass
class Problem:
    """Recorded trainings; scores are maximized. `curve(point)` is (scores, seconds) by step."""

    name: str
    space: Space
    steps: int
    curve: Callable[[Point], tuple[np.ndarray, np.ndarray]]
    best: float
    median: float
    portfolio: Sequence[Point] = ()

    def measure(self, recipe: Recipe, step: int) -> tuple[dict[str, float], float]:
        scores, seconds = self.curve(recipe.point)
        return {"val/score": float(scores[step - 1])}, float(seconds[step - 1])


def lcbench(data: Path, task: str) -> Problem:
    """One task of YAHPO's LCBench surrogate; best known from a search of its own."""
    import onnxruntime  # an extra of its own

    meta = json.loads((data / "lcbench/meta.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    net = onnxruntime.InferenceSession(data / "lcbench/model.onnx", options)
    ranges: dict[str, Range] = {
        d["name"]: (Int if d["type"] == "int" else Float)(d["low"], d["high"], log=d["log"])
        for d in meta["space"]
    }
    space = Space(ranges)
    names = meta["cont_names"][1:]

    def predict(points: Sequence[Point], epochs: Iterable[int]) -> np.ndarray:
        rows = [[e, *(p[n] for n in names)] for p in points for e in epochs]
        cont = np.array(rows, dtype=np.float32)
        cat = np.full((len(rows), 1), meta["tasks"][task], dtype=np.int32)
        found: np.ndarray = net.run(None, {"x_cat": cat, "x_cont": cont})[0]
        return found

    known: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]] = {}

    def curve(point: Point) -> tuple[np.ndarray, np.ndarray]:
        key = tuple(point[n] for n in names)
        if key not in known:
            out = predict([point], range(1, 53))
            known[key] = out[:, 1], np.maximum.accumulate(out[:, 0])
        return known[key]

    scores, best = _reference(space, lambda points: predict(points, (52,))[:, 1])
    return Problem(f"lcbench {task}", space, 52, curve, best, float(np.median(scores)))


def experience(problem: Problem, trainings: int) -> Experience:
    """What a study of `trainings` full ones by our process leaves behind."""
    strategy = make_strategy(
        "gp", problem.space, fidelity=(52, 52, 3), direction="maximize", seed=4321
    )
    points: list[Point] = []
    losses: list[float] = []
    for _ in range(trainings):
        (segment,) = strategy.ask(1)
        score = float(problem.curve(segment.recipe.point)[0][-1])
        strategy.tell(segment, {52: score})
        points.append(segment.recipe.point)
        losses.append(-score)
    return Experience(points, losses, [1.0] * trainings)


def _reference(
    space: Space, score: Callable[[Sequence[Point]], np.ndarray]
) -> tuple[np.ndarray, float]:
    """Scores of 20,000 random points, and the best once the best eight have been refined."""
    rng = np.random.default_rng(0)
    units = rng.random((20000, len(space)))
    scores = score([space.decode(u) for u in units])
    top = np.argsort(-scores)[:8]
    points, values = units[top], scores[top]
    for round_ in range(30):
        step = 0.2 * 0.8**round_
        near = np.repeat(points, 25, axis=0)
        near = np.clip(near + step * rng.normal(size=near.shape), 0, 1)
        found = score([space.decode(u) for u in near])
        points, values = np.concatenate([points, near]), np.concatenate([values, found])
        top = np.argsort(-values)[:8]
        points, values = points[top], values[top]
    return scores, float(values.max())


def table(data: Path, name: str) -> Problem:
    """A complete grid; a training is one step, its score the mean over the recorded seeds."""
    spec = json.loads((data / "tables/spaces.json").read_text())[name.split("__")[0]]
    raw = np.load(data / f"tables/{name}.npz")
    names = [d["name"] for d in spec["space"]]
    choices = [d["choices"] for d in spec["space"]]
    ranges: dict[str, Range] = {
        n: Choice(list(range(len(c))), default=len(c) // 2)
        for n, c in zip(names, choices, strict=True)
    }
    numeric = {n for n, c in zip(names, choices, strict=True) if not isinstance(c[0], str)}
    for n in numeric:
        ranges[n] = Int(0, len(choices[names.index(n)]) - 1)
    scores = np.nanmean(raw["y"].astype(float), axis=1) * (-1 if "loss" in spec["metric"] else 1)
    cells = {tuple(i): s for i, s in zip(raw["idx"].tolist(), scores.tolist(), strict=True)}

    def curve(point: Point) -> tuple[np.ndarray, np.ndarray]:
        score = cells.get(tuple(point[n] for n in names), float(np.median(scores)))
        return np.array([score]), np.array([1.0])

    return Problem(name, Space(ranges), 1, curve, float(scores.max()), float(np.median(scores)))


def run(problem: Problem, name: str, *, fulls: int, seed: int, workers: int) -> np.ndarray:
    """Best score after each full training paid for, [fulls]."""
    if name.startswith("optuna-tpe"):
        return _optuna(problem, fulls=fulls, seed=seed, baseline=name.endswith("+baseline"))
    fidelity = default_fidelity(problem.steps, 1)
    with_portfolio = name.endswith("+portfolio")
    strategy = make_strategy(
        name.removesuffix("+portfolio"),
        problem.space,
        fidelity=fidelity,
        direction="maximize",
        seed=seed,
        workers=workers,
        budget=float(fulls),
        portfolio=problem.portfolio if with_portfolio else None,
    )
    executor = Simulated(problem.measure, workers=workers)
    paid = 0
    seen: list[float] = []
    running = {}
    while paid < fulls * problem.steps:
        for segment in strategy.ask(executor.capacity):
            running[segment.trial] = segment
            executor.submit(Pack((segment,), ""))
        for report in executor.reports():
            values = {step: m["val/score"] for step, m in report.curve}
            seen += values.values()
            paid += report.reached - report.start
            strategy.tell(running[report.trial], values)
    best = np.maximum.accumulate(seen)
    return best[problem.steps - 1 :: problem.steps][:fulls]


def _optuna(problem: Problem, *, fulls: int, seed: int, baseline: bool) -> np.ndarray:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))

    if baseline:
        study.enqueue_trial(problem.space.default())

    def objective(trial: optuna.Trial) -> float:
        point = {}
        for d in problem.space:
            if isinstance(d.range, Choice):
                point[d.name] = trial.suggest_categorical(d.name, d.range.options)
            else:
                kind = trial.suggest_int if isinstance(d.range, Int) else trial.suggest_float
                point[d.name] = kind(d.name, d.range.low, d.range.high, log=d.range.log)
        return float(problem.curve(point)[0].max())

    study.optimize(objective, n_trials=fulls)
    return np.maximum.accumulate([t.value for t in study.trials])


def interval(by_task: np.ndarray, *, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over tasks; by_task [tasks, seeds]."""
    rng = np.random.default_rng(0)
    means = by_task.mean(axis=1)
    picks = rng.integers(0, len(means), (draws, len(means)))
    low, high = np.quantile(means[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--on", choices=("lcbench", "tables"), default="lcbench")
    parser.add_argument("--fulls", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--strategies", nargs="+", default=["random", "tpe", "asha", "auto"])
    parser.add_argument("--experience", type=int, default=40, help="trainings of each other task")
    parser.add_argument("--tasks", nargs="+", help="only these of them")
    args = parser.parse_args()

    elsewhere: dict[str, Experience] = {}
    if any(name.endswith("+portfolio") for name in args.strategies):
        for task in json.loads((args.data / "lcbench/meta.json").read_text())["tasks"]:
            elsewhere[task] = experience(lcbench(args.data, task), args.experience)

    def make(task: str) -> Problem:
        if args.on == "tables":
            return table(args.data, task)
        problem = lcbench(args.data, task)
        others = [known for other, known in elsewhere.items() if other != task]
        return replace(problem, portfolio=learnt(problem.space, others))

    known_tasks = TASKS if args.on == "lcbench" else TABLES
    tasks = [t for t in known_tasks if not args.tasks or t in args.tasks]
    names = ["optuna-tpe", *args.strategies]
    found = np.zeros((len(names), len(tasks), args.seeds, len(args.fulls)))
    seconds = np.zeros(len(names))
    for j, task in enumerate(tasks):  # seeds differ between tasks, or all would share their luck
        problem = make(task)
        for i, name in enumerate(names):
            begun = time.process_time()
            for seed in range(args.seeds):
                best = run(
                    problem,
                    name,
                    fulls=max(args.fulls),
                    seed=100 * j + seed,
                    workers=args.workers,
                )
                found[i, j, seed] = [best[min(b, len(best)) - 1] for b in args.fulls]
            seconds[i] += time.process_time() - begun
        known = max(problem.best, float(found[:, j].max()))
        found[:, j] = 100 * (known - found[:, j]) / (known - problem.median)
    print(f"{args.on}: {len(tasks)} tasks x {args.seeds} seeds, {args.workers} worker(s)")
    for k, fulls in enumerate(args.fulls):
        print(f"\nafter {fulls} full trainings   regret %         minus optuna-tpe   CPU s a run")
        for i, name in enumerate(names):
            regret, gap = found[i, :, :, k], found[i, :, :, k] - found[0, :, :, k]
            low, high = interval(regret)
            worse, better = interval(gap)
            cost = seconds[i] / (len(tasks) * args.seeds)
            print(
                f"{name:24} {regret.mean():5.1f} [{low:5.1f},{high:5.1f}]"
                f"   {gap.mean():+6.1f} [{worse:+6.1f},{better:+6.1f}]   {cost:6.2f}"
            )


if __name__ == "__main__":
    main()
