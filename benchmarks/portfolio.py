"""Learn a portfolio from finished runs, ours and other people's, as `--warm-start` learns one.

    python benchmarks/portfolio.py --data DATA                 print the entries
    python benchmarks/portfolio.py --data DATA --check digits  train them beside the shipped ones

Inputs, a study for each task:

    docs/shootout.jsonl   4 tasks: each of 34 optimizers at its tuned best, the test value over
                          three fresh seeds (`benchmarks/methods_shootout.py`)
    DATA/deepobs          8 problems: SGD with momentum 0.99 and Adam at many learning rates (plain
                          SGD is outside of our ranges); the last test loss
    DATA/algoperf         8 workloads of externally tuned submissions: the best validation value of
                          each trial. What a submission is called there stands in `SUBMISSIONS`;
                          those with no likeness here are left out

A process is fitted to each study and asked what it expects of the best points of all; the points
that complement each other are chosen greedily (`automl.search.learnt`). With --check, what the
checked task itself brought is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from algoperf import FALLING
from methods_shootout import prepare_data, spec

from automl.search.learnt import Experience, fitted, learnt
from automl.search.portfolio import portfolio
from automl.space.files import compose, load_space
from automl.space.ranges import Choice, Value
from automl.space.tree import Point, Space

ROOT = Path(__file__).parent.parent
SUBMISSIONS: Mapping[str, Mapping[str, Value]] = {
    "baseline": {"optimizer": "nadam"},
    "nadamw_sequential": {"optimizer": "nadam"},
    "cyclic_lr": {"optimizer": "nadam", "schedule": "cosine_restarts"},
    "lawa_queue": {"optimizer": "nadam", "averaging": "lawa"},
    "lawa_ema": {"optimizer": "nadam", "averaging": "ema"},
    "schedule_free_adamw": {"optimizer": "schedule_free_adamw"},
    "shampoo_submission": {"optimizer": "shampoo"},
}
WORKLOADS = ("fastmri", "imagenet_resnet", "imagenet_vit", "librispeech_conformer",
             "librispeech_deepspeech", "ogbg", "wmt", "criteo1tb")  # fmt: skip
Run = tuple[Point, float]  # a partial point and its loss


def shootout(rows: Iterable[str]) -> dict[str, list[Run]]:
    """Runs by task."""
    found: dict[str, list[Run]] = {}
    for row in map(json.loads, rows):
        sign = -1 if row["direction"] == "maximize" else 1
        loss = sign * float(np.mean(row["test"])) if row["test"] else math.inf
        point = {"optimizer": row["optimizer"], **row["point"]}
        found.setdefault(row["task"], []).append((point, loss))
    return found


def deepobs(folder: Path) -> dict[str, list[Run]]:
    losses = np.load(folder / "curves.npz")["test_losses"]
    found: dict[str, list[Run]] = {}
    for run, curve in zip(json.loads((folder / "runs.json").read_text()), losses, strict=True):
        adam = run["optimizer"] == "AdamOptimizer"
        point: dict[str, Value] = {"optimizer": "adam" if adam else "sgd", "schedule": "constant"}
        point[f"optimizer.{point['optimizer']}.lr"] = run["lr"]
        if not adam:
            point["optimizer.sgd.momentum"] = 0.99 if "momentum" in run["settings"] else 0.0
            point["optimizer.sgd.nesterov"] = False
        known = curve[np.isfinite(curve)]
        whole = len(known) and len(known) == len(curve[: _last(curve) + 1])
        loss = float(known[-1]) if whole else math.inf
        found.setdefault(run["problem"], []).append((point, loss))
    return found


def algoperf(folder: Path) -> dict[str, list[Run]]:
    curves = np.load(folder / "curves.npz")["metric"]
    found: dict[str, list[Run]] = {}
    for run in json.loads((folder / "runs.json").read_text()):
        workload = re.sub(r"_(jax|pytorch)$", "", run["workload"])
        like, values = SUBMISSIONS.get(run["submission"]), run["hparams"]
        if workload not in WORKLOADS or like is None or values is None:
            continue
        optimizer = f"optimizer.{like['optimizer']}"
        point: dict[str, Value] = {
            **like,
            f"{optimizer}.lr": values.get("learning_rate"),
            f"{optimizer}.wd": values.get("weight_decay"),
            f"{optimizer}.b1": 1 - values.get("one_minus_beta1", 0.1),
            f"{optimizer}.b2": values.get("beta2", 1 - values.get("one_minus_beta2", 1e-3)),
            "schedule.cosine.warmup": values.get("warmup_factor"),
        }
        seen = curves[run["offset"] : run["offset"] + run["n"]]
        seen = seen[np.isfinite(seen)]
        falls = run["metric"].endswith(FALLING)
        loss = float(seen.min() if falls else -seen.max()) if len(seen) else math.inf
        known = {name: value for name, value in point.items() if value is not None}
        found.setdefault(workload, []).append((known, loss))
    return found


def _last(curve: np.ndarray) -> int:
    """Where a curve that is padded with nan ends; a diverged one has infinities before that."""
    there = np.flatnonzero(~np.isnan(curve))
    return int(there[-1]) if len(there) else -1


def experience(space: Space, runs: list[Run]) -> Experience:
    """Those of the runs that `space` can hold; plain SGD and rates beyond our ranges it cannot."""
    kept = [(p, v) for p, v in runs if all(space[n].range.contains(x) for n, x in p.items())]
    return Experience([p for p, _ in kept], [v for _, v in kept], [1.0] * len(kept))


def entries(space: Space, points: Iterable[Point]) -> list[dict[str, Value]]:
    """Points as entries of a portfolio: what they change of the defaults, and their optimizer."""
    default = space.default()
    return [
        {
            n: v
            for n, v in p.items()
            if n == "optimizer" or v != default.get(n, space[n].range.default)
        }
        for p in points
    ]


def check(task: str, data: Path, space: Space, found: list[dict[str, Value]], size: int) -> None:
    """Validation values of the first `size` entries, learnt and shipped, one training each."""
    import torch

    from automl.recipe import Recipe
    from automl.records import Pack, Segment, Status
    from automl.tasks.opening import open_task
    from automl.train.segment import run

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        prepare_data(data if task != "digits" else None, [task], Path(scratch))
        opened = open_task(spec(task, "adamw", Path(scratch)))
        steps, metric = opened.card.steps, f"val/{opened.card.metric}"
        for name, points in (("learnt", found), ("shipped", portfolio(space))):
            values = []
            for number, point in enumerate(points[:size]):
                recipe = Recipe(space.complete(point), steps=steps, seed=number)
                pack = Pack(
                    (Segment(number, recipe, 0, steps),), f"{scratch}/{name}{number}", False
                )
                report = run(pack, opened, progress=lambda p: None, stop=set)[0]
                if report.status is Status.DONE:
                    values.append(float(report.curve[-1][1][metric]))
            best = max(values) if opened.card.direction == "maximize" else min(values)
            print(f"{task} {name}: best {best:.4f} of " + " ".join(f"{v:.4f}" for v in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--space", default="everything", help="whose optimizers may be chosen")
    parser.add_argument("--check", nargs="*", default=[], choices=("digits", "table"))
    args = parser.parse_args()
    ours = shootout((ROOT / "docs/shootout.jsonl").read_text().splitlines())
    theirs = deepobs(args.data / "deepobs") | algoperf(args.data / "algoperf")
    whole = load_space(args.space)
    optimizers = whole["optimizer"].range
    assert isinstance(optimizers, Choice)
    space = compose({
        "optimizer": list(optimizers.options), "averaging": ["none", "ema", "lawa"],
        "schedule": ["cosine", "constant", "cosine_restarts"],
    })  # fmt: skip
    for left_out in args.check or [""]:
        runs = [r for t, r in {**ours, **theirs}.items() if t != left_out]
        found = entries(space, learnt(space, [experience(space, r) for r in runs], size=args.size))
        print(
            f"from {len(runs)} tasks, {sum(map(len, runs))} runs"
            + f" without {left_out}" * bool(left_out)
        )
        for entry in found:
            print(f"    {entry}")
        if left_out:
            check(left_out, args.data, whole, [fitted(whole, p) for p in found], args.size)


if __name__ == "__main__":
    main()
