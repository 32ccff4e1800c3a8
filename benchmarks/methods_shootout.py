"""Every optimizer at its tuned best, at equal passes and an equal tuning budget.

    python benchmarks/methods_shootout.py --data DATA [--tasks digits table cifar text]
        [--optimizers lion muon ...] [--trials 8] [--seeds 3] [--jobs 2] [--out FOLDER]

For each task and optimizer: the default settings and `--trials` - 1 points of TPE over the
optimizer's own hyperparameters (and the schedule's warmup); all else is the task's baseline. The
best on validation is trained again on `--seeds` fresh seeds and judged on the test split. A
training is so many passes, not steps: whose step costs two takes half of the steps. Adapters
(`pytorch_optimizer:NAME`) stay out.

Tasks: scikit-learn's digits (MLP); ETTh1's oil temperature from its six loads (MLP); a quarter of
the CIFAR-10 subset at 16x16 (a narrow convnet); the first 200 kB of tiny Shakespeare (a
transformer of one block). Each training takes about three seconds of one core: this is a
comparison of short trainings. DATA holds cifar10_subset/, timeseries/ETTh1.csv and
text/tinyshakespeare.txt.

FOLDER is docs/ unless told. Written there: shootout.jsonl, one line a task and optimizer (what is
there already is not run again: remove the file to measure anew), shootout.svg, and the table,
in methods.md between its two marks, or in shootout.md where there is no such file.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import math
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from end_to_end import cifar16, table

from automl.methods.stages import Optimizer
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.registry import family
from automl.search.strategy import Failure, make_strategy
from automl.space.ranges import Choice
from automl.space.tree import Space

LENGTHS = {"digits": 20.0, "table": 5.0, "cifar": 8.0, "text": 1.25}  # epochs of a full training
FIXED = {
    "digits": ("architecture=mlp",),
    "table": ("architecture=mlp",),
    "cifar": ("architecture=convnet", "architecture.convnet.width=8"),
    "text": (
        "architecture=transformer",
        "architecture.transformer.width=32",
        "architecture.transformer.depth=1",
    ),
}
TEXT_BYTES = 200_000
DOCS = Path(__file__).parent.parent / "docs"
MARKS = "<!-- table -->\n", "<!-- end of table -->\n"


def spec(task: str, optimizer: str, data: Path) -> TaskSpec:
    sources = {
        "digits": "digits", "table": str(data / "etth1.csv"), "cifar": str(data / "cifar16"),
        "text": str(data / "shakespeare.txt"),
    }  # fmt: skip
    return TaskSpec(
        sources[task],
        target="OT" if task == "table" else None,
        sets=(*FIXED[task], f"optimizer={optimizer}"),
        epochs=LENGTHS[task],
        device="cpu",
    )


def own_space(space: Space) -> Space:
    """Only the optimizer's hyperparameters and the warmup vary; the rest is the baseline."""
    for name, value in space.default().items():
        if name in space and not name.startswith("optimizer.") and "warmup" not in name:
            space = space.replace(name, Choice([value]))
    return space


def shoot(task: str, optimizer: str, data: Path, trials: int, seeds: int) -> dict[str, Any]:
    """Tune one optimizer on one task; its test values over fresh seeds."""
    import torch

    from automl.tasks.opening import open_task
    from automl.train.segment import run

    torch.set_num_threads(1)
    began = time.process_time()
    opened = open_task(spec(task, optimizer, data))
    card = opened.card
    space = own_space(Space.from_json(card.space))
    method = family("optimizer").get(optimizer)
    assert isinstance(method, Optimizer)
    steps = max(round(card.steps / method.passes), 1)
    strategy = make_strategy(
        "tpe", space, fidelity=(steps, steps, 3), direction=card.direction, seed=0, budget=trials
    )
    metric = f"val/{card.metric}"
    sign = 1 if card.direction == "maximize" else -1
    found: list[tuple[float, Segment]] = []

    def train(segment: Segment, folder: str, *, test: bool) -> Report:
        return run(Pack((segment,), folder, test), opened, progress=lambda p: None, stop=set)[0]

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(trials):
            for segment in strategy.ask(1):
                report = train(segment, f"{folder}/{segment.trial}", test=False)
                if report.status not in (Status.DONE, Status.DIVERGED):
                    strategy.tell(segment, Failure(report.status.value, report.message))
                    continue
                value = math.nan
                if report.status is Status.DONE:
                    value = float(report.curve[-1][1][metric])
                    found.append((sign * value, segment))
                strategy.tell(segment, {segment.stop: value})
        values = []
        if found:
            best = max(found, key=lambda f: f[0])[1]
            for seed in range(1000, 1000 + seeds):
                again = replace(best, trial=seed, recipe=replace(best.recipe, seed=seed))
                report = train(again, f"{folder}/{seed}", test=True)
                if report.status is Status.DONE and report.test is not None:
                    values.append(float(report.test[f"test/{card.metric}"]))
    return {
        "task": task, "optimizer": optimizer, "metric": card.metric, "direction": card.direction,
        "test": values, "trained": len(found), "trials": trials, "steps": steps,
        "point": {n: v for n, v in (best.recipe.point if found else {}).items()
                  if n.startswith("optimizer.")},
        "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def prepare_data(source: Path | None, tasks: list[str], folder: Path) -> None:
    if source is None and set(tasks) - {"digits"}:
        raise SystemExit("--data: the folder that holds the data sets (digits needs none)")
    if source is None:
        return
    if "cifar" in tasks:
        cifar16(source, folder)
    if "table" in tasks:
        table(source, folder)
    if "text" in tasks:
        text = (source / "text" / "tinyshakespeare.txt").read_bytes()[:TEXT_BYTES]
        (folder / "shakespeare.txt").write_bytes(text)


def summary(row: dict[str, Any]) -> tuple[float, float] | None:
    """Mean and spread of the test values; None when fewer than two seeds were trained."""
    values = row["test"]
    if len(values) < 2:
        return None
    return round(statistics.mean(values), 6), round(statistics.stdev(values), 6)


def ranks(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean rank of each optimizer over the tasks, 1 = best; what failed on a task is last there."""
    places: dict[str, list[float]] = {}
    for task in dict.fromkeys(r["task"] for r in rows):
        of_task = [r for r in rows if r["task"] == task]
        sign = -1 if of_task[0]["direction"] == "maximize" else 1
        key = {r["optimizer"]: sign * s[0] if (s := summary(r)) else math.inf for r in of_task}
        for name, value in key.items():
            below = sum(v < value for v in key.values())
            equal = sum(v == value for v in key.values())
            places.setdefault(name, []).append(below + (equal + 1) / 2)
    return {name: statistics.mean(p) for name, p in places.items()}


def places(rows: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Rank of each (task, optimizer) by its mean, 1 = best; equal ones share the better."""
    found = {}
    for row in rows:
        if own := summary(row):
            sign = -1 if row["direction"] == "maximize" else 1
            others = [s for r in rows if r["task"] == row["task"] and (s := summary(r))]
            found[row["task"], row["optimizer"]] = 1 + sum(
                sign * s[0] < sign * own[0] for s in others
            )
    return found


def dearness(rows: list[dict[str, Any]], name: str) -> float:
    """CPU seconds of all trainings over those of adamw, the mean over the tasks."""
    seconds = {(r["task"], r["optimizer"]): r["cpu_seconds"] for r in rows}
    ratios = [
        s / seconds[t, "adamw"]
        for (t, o), s in seconds.items()
        if o == name and (t, "adamw") in seconds
    ]
    return statistics.mean(ratios) if ratios else math.nan


def table_of(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean rank, then mean ± standard deviation and the rank on each task."""
    tasks = [t for t in LENGTHS if any(r["task"] == t for r in rows)]
    metrics = {r["task"]: r["metric"].replace("_", " ") for r in rows}
    by = {(r["task"], r["optimizer"]): r for r in rows}
    place = places(rows)
    head = " | ".join(f"{t}: test {metrics[t]}" for t in tasks)
    lines = [f"| optimizer | mean rank | {head} | CPU time |", "|---" * (3 + len(tasks)) + "|"]
    for name, rank in sorted(ranks(rows).items(), key=lambda item: item[1]):
        cells = []
        for task in tasks:
            row = by.get((task, name))
            s = summary(row) if row else None
            if not s:
                cells.append("failed" if row else "not run")
                continue
            percent = row is not None and row["metric"] == "accuracy"
            figures = [f"{100 * x:.2f}" if percent else f"{x:.3f}" for x in s]
            cells.append(f"{figures[0]} ± {figures[1]} ({place[task, name]})")
        lines.append(f"| {name} | {rank:.1f} | {' | '.join(cells)} | {dearness(rows, name):.1f} |")
    return "\n".join(lines) + "\n"


def write_table(table: str, folder: Path) -> None:
    """Into methods.md, in the place of the table that stands there; else into shootout.md."""
    document = folder / "methods.md"
    if not document.exists():
        (folder / "shootout.md").write_text(table)
        return
    before, rest = document.read_text().split(MARKS[0])
    document.write_text(
        before + MARKS[0] + "\n" + table + "\n" + MARKS[1] + rest.split(MARKS[1])[1]
    )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel a task: mean test value and spread of each optimizer, the best on top."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "shootout"}
    tasks = [t for t in LENGTHS if any(r["task"] == t for r in rows)]
    most = max(sum(r["task"] == t for r in rows) for t in tasks)
    figure = Figure(figsize=(3.4 * len(tasks), 1.2 + 0.2 * most), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        shown = [(r, s) for r in rows if r["task"] == task and (s := summary(r))]
        sign = 1 if shown[0][0]["direction"] == "maximize" else -1
        shown.sort(key=lambda item: sign * item[1][0])
        means = [s[0] for _, s in shown]
        spreads = [s[1] for _, s in shown]
        colors = ["#d95f02" if r["optimizer"] == "adamw" else "#1f77b4" for r, _ in shown]
        places = range(len(shown))
        axes.errorbar(means, places, xerr=spreads, fmt="none", ecolor="#999999")
        axes.scatter(means, places, c=colors, s=18, zorder=3)
        axes.set_yticks(places, [r["optimizer"] for r, _ in shown], fontsize=7)
        middle = statistics.median(means)
        best = max(means, key=lambda m: sign * m)
        wide = 3 * abs(best - middle) + 2 * max(statistics.median(spreads), 1e-9)
        low, high = (middle - wide, best) if sign > 0 else (best, middle + wide)
        axes.set_xlim(low - 0.1 * wide, high + 0.1 * wide)  # what failed badly lies outside
        metric = shown[0][0]["metric"].replace("_", " ")
        axes.set_title(f"{task}: test {metric}", fontsize=9)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=list(LENGTHS), default=list(LENGTHS))
    parser.add_argument("--optimizers", nargs="+")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "shootout.jsonl"
    rows = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    there = {(r["task"], r["optimizer"]) for r in rows}
    names = args.optimizers or list(family("optimizer").names())
    todo = [(t, o) for t in args.tasks for o in names if (t, o) not in there]
    with tempfile.TemporaryDirectory() as scratch:
        prepare_data(args.data, sorted({t for t, _ in todo}), Path(scratch))
        with ProcessPoolExecutor(args.jobs) as pool, results.open("a") as out:
            work = [
                pool.submit(shoot, t, o, Path(scratch), args.trials, args.seeds) for t, o in todo
            ]
            for done in as_completed(work):
                row = done.result()
                rows.append(row)
                out.write(json.dumps(row) + "\n")
                out.flush()
                s = summary(row)
                said = f"{s[0]:.4f} ± {s[1]:.4f}" if s else "failed"
                cost = f"{row['cpu_seconds']:.0f} CPU s"
                print(f"{row['task']:8} {row['optimizer']:22} {said}  {cost}", flush=True)
    table = table_of(rows)
    write_table(table, args.out)
    draw(rows, args.out / "shootout.svg")
    print(table)


if __name__ == "__main__":
    main()
