"""Weight-sharing searches of a cell, beside random cells and plain TPE over the same cells.

    python benchmarks/nas.py [--on digits|cifar10] [--seeds 0 1 2 3 4] [--only LABEL ...]
                             [--data ../shared/data] [--to nas.jsonl]

A cell of six edges and five operations, 8 channels. Every search is the job that `--nas` starts,
with its defaults but for what RELATIVES changes; every cell is then trained alike from scratch, on
the whole training set. Random cells and cells asked of Optuna's TPE get the CPU seconds of
DARTS-PT, its final training included; the best on validation is taken of each. All values are test
accuracy.

digits: 1,078 images for training, 12 epochs. cifar10: 2,000 images of the subset for training,
1,000 for validation, 2,000 for test, averaged to 16x16 pixels, 8 epochs; far below what CIFAR-10
allows, so that it compares searches and nothing else. Training is AdamW at 0.003 with a cosine: of
three recipes tried it came nearest to what was known of this cell on digits before (six conv3:
.928, random cells: .615 on average).

What is found is appended to the file of `--to`; what it holds already is not run again. The table
at the end is of the whole file. The figures stand in docs/architectures.md.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.architectures.cells import CELLS_EDGES, CELLS_OPERATIONS, cells
from automl.methods.stages import Shape
from automl.recipe import Recipe
from automl.records import Pack, Segment, Status, TaskSpec
from automl.tasks.digits import open_digits
from automl.tasks.searching import SupernetJob
from automl.tasks.task import Split
from automl.train.seeding import KeyedDraws, mix
from automl.train.segment import run

BATCH = 64
PLAIN = ("selection=argmax", "max_skips=1000", "watch=false")  # DARTS as published
RELATIVES: dict[str, tuple[str, tuple[str, ...]]] = {  # label -> --nas, what is set
    "first order": ("darts", PLAIN),
    "second order": ("darts", (*PLAIN, "order=2")),
    "sdarts": ("sdarts", ()),
    "gdas": ("gdas", ()),
    "fair": ("fair", ()),
    "beta": ("beta", ()),
    "pc-darts": ("pc_darts", ()),
    "p-darts": ("p_darts", ()),
    "oneshot": ("oneshot", ()),
    "darts-pt": ("darts_pt", ("fine_tune=2",)),
    "darts": ("darts", ()),
}
EQUAL = "darts-pt"  # whose cost random cells and TPE get
Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    shape: Shape
    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    epochs: int  # of a training from scratch
    search_epochs: int


def tensors(split: Split | None) -> tuple[Tensor, Tensor]:
    assert split is not None and split.x is not None and split.y is not None
    return split.x, split.y


def digits() -> Data:
    task = open_digits(TaskSpec(source="digits"))
    train, valid, test = (tensors(s) for s in (task.train, task.valid, task.test))
    return Data(Shape("image", (1, 8, 8), 10, "classes"), train, valid, test, 12, 20)


def cifar10(folder: Path) -> Data:
    raw = np.load(folder / "cifar10_subset/cifar10_jpeg.npz")

    def decoded(split: str, count: int) -> tuple[Tensor, Tensor]:
        data, offsets = raw[f"{split}_bytes"], raw[f"{split}_offsets"]
        labels = raw[f"{split}_labels"]
        order = np.random.default_rng(0).permutation(len(labels))[:count]
        images = [
            np.asarray(Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())))
            for i in order
        ]
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return F.avg_pool2d(x, 2), torch.from_numpy(labels[order].astype(np.int64))

    x, y = decoded("train", 3000)
    train, valid = (x[:2000], y[:2000]), (x[2000:], y[2000:])
    shape = Shape("image", (3, 16, 16), 10, "classes")
    return Data(shape, train, valid, decoded("test", 2000), 8, 12)


def trained(data: Data, edges: dict[str, str], seed: int) -> tuple[float, float, float]:
    """Validation and test accuracy of the cell trained from scratch, and CPU seconds."""
    began = time.process_time()
    torch.manual_seed(mix(seed, "retrain") % 2**63)
    operations = {e: edges[e] for e in CELLS_EDGES}
    net = cells(data.shape, width=8, cells=1, dropout=0.0, **operations)
    x, y = data.train
    per_epoch = math.ceil(len(x) / BATCH)
    adamw = torch.optim.AdamW(net.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, data.epochs * per_epoch)
    for _ in range(data.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            adamw.zero_grad()
            F.cross_entropy(net(x[index]), y[index]).backward()
            adamw.step()
            rate.step()
    net.eval()
    return right(net, *data.valid), right(net, *data.test), time.process_time() - began


@torch.no_grad()
def right(net: nn.Module, x: Tensor, y: Tensor) -> float:
    guessed = torch.cat([net(part) for part in x.split(500)]).argmax(1)
    return float((guessed == y).double().mean())


def searched(data: Data, nas: str, sets: tuple[str, ...], seed: int) -> tuple[Row, float]:
    """What the job of `--nas` found, and its CPU seconds."""
    began = time.process_time()
    length = data.search_epochs * (2 if nas == "oneshot" else 1)  # as their defaults are
    chosen = [f"nas.{nas}.{one}" for one in (f"epochs={length}", *sets)]
    cell = ("architecture=cells", "architecture.cells.width=8", "architecture.cells.cells=1")
    task = open_digits(TaskSpec("digits", nas=nas, sets=(*cell, *chosen)))
    task = replace(task, train=Split(*data.train), shape=data.shape)
    plan = task.card.supernet
    assert plan is not None
    steps = SupernetJob.of(plan["point"]).steps(len(data.train[0]))
    segment = Segment(1, Recipe(plan["point"], steps=steps, seed=seed), 0, steps)
    with tempfile.TemporaryDirectory() as folder:
        (report,) = run(Pack((segment,), folder), task)
    assert report.status is Status.DONE and report.found is not None, report.message
    return dict(report.found), time.process_time() - began


def random_cell(seed: int, number: int) -> dict[str, str]:
    draws = KeyedDraws([mix(seed, "cell", number)]).at(0).uniform(len(CELLS_EDGES))[0].tolist()
    return {
        e: CELLS_OPERATIONS[int(u * len(CELLS_OPERATIONS))]
        for e, u in zip(CELLS_EDGES, draws, strict=True)
    }


def best_random(data: Data, seed: int, seconds: float) -> Row:
    """The test value of the cell that is best on validation, and those of all cells drawn."""
    found: list[tuple[float, float, float]] = []
    while not found or sum(s for *_, s in found) < seconds:
        found.append(trained(data, random_cell(seed, len(found)), seed))
    return {"test": max(found)[1], "each": [test for _, test, _ in found]}


def best_tpe(data: Data, seed: int, seconds: float) -> Row:
    """As `best_random`, of the cells that TPE asks for."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    found: list[tuple[float, float, float]] = []
    while not found or sum(s for *_, s in found) < seconds:
        trial = study.ask()
        cell = {e: trial.suggest_categorical(e, CELLS_OPERATIONS) for e in CELLS_EDGES}
        found.append(trained(data, cell, seed))
        study.tell(trial, found[-1][0])
    return {"test": max(found)[1], "each": [test for _, test, _ in found]}


def of_relative(data: Data, label: str, seed: int) -> Row:
    found, seconds = searched(data, *RELATIVES[label], seed)
    (edges,) = found["edges"]
    _, test, training = trained(data, edges, seed)
    kept = {n: found[n] for n in ("before", "after", "collapsed")}
    cell = [edges[e] for e in CELLS_EDGES]
    return {"test": test, "seconds": seconds, "cost": seconds + training, "cell": cell, **kept}


def table(rows: list[Row]) -> str:
    """A line a label: test accuracy over the seeds, skips, and the search's CPU seconds."""
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        mine = [row for row in rows if row["label"] == label]
        values = [row["test"] for row in mine]
        lines.append(f"{label:13} {spread(values)}  {len(values)} seeds")
        if label in RELATIVES:
            skips = [row["cell"].count("skip") for row in mine]
            cost = statistics.mean(row["seconds"] for row in mine)
            lines[-1] += f"  skips {skips}  search {cost:.0f} s"
        else:
            each = [value for row in mine for value in row["each"]]
            lines.append(f"{label + ', each':13} {spread(each)}  {len(each)} cells")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    low, high = min(values), max(values)
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}  {low:.3f} .. {high:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=("digits", "cifar10"), default="digits")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    every = [*RELATIVES, "random", "tpe"]
    parser.add_argument("--only", choices=every, nargs="+", default=every, metavar="LABEL")
    parser.add_argument("--to", type=Path, default=Path("nas.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = digits() if given.on == "digits" else cifar10(given.data)
    lines = given.to.read_text().splitlines() if given.to.exists() else []
    rows: list[Row] = [row for row in map(json.loads, lines) if row["on"] == given.on]
    known = {(row["label"], row["seed"]): row for row in rows}
    for seed in given.seeds:
        for label in sorted(given.only, key=lambda n: n in ("random", "tpe")):
            if (label, seed) in known:
                continue
            if label in RELATIVES:
                row = of_relative(data, label, seed)
            else:
                equal = known.get((EQUAL, seed))
                if equal is None:
                    parser.error(f"{label} gets the cost of {EQUAL}, which seed {seed} lacks")
                best: Callable[[Data, int, float], Row]
                best = best_random if label == "random" else best_tpe
                row = best(data, seed, equal["cost"])
            row = {"on": given.on, "label": label, "seed": seed, **row}
            known[label, seed] = row
            rows.append(row)
            with given.to.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"seed {seed}  {label:13} test {row['test']:.3f}", *row.get("cell", ()), flush=True
            )
    print(table(rows))


if __name__ == "__main__":
    main()
