"""Weight-sharing search of a cell, beside random cells and plain TPE over the same cells.

    python benchmarks/nas.py [--on digits|cifar10] [--data ../shared/data] [--seeds 5]

A cell of six edges and five operations, 8 channels; every cell is trained alike from scratch, with
SGD on the whole training set. For each seed: first order, second order (on digits),
perturbation-based selection on the first-order supernet, and what the CPU seconds of that
selection pay for, search and final training together: as many random cells, and as many cells asked
of Optuna's TPE, the best on validation taken of each. All values are test accuracy.

digits: 1,078 images for training, 12 epochs. cifar10: 2,000 images of the subset for training,
1,000 for validation, 2,000 for test, averaged to 16x16 pixels, 8 epochs; far below what CIFAR-10
allows, so that it compares searches and nothing else. The figures stand in docs/architectures.md.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from automl.darts.derive import argmax, perturbation
from automl.darts.search import Search, Settings
from automl.darts.supernet import Supernet, every_candidate
from automl.methods.architectures.cells import CELLS_EDGES, CELLS_OPERATIONS, METHOD, cells
from automl.methods.stages import Shape
from automl.records import TaskSpec
from automl.tasks.digits import open_digits
from automl.tasks.task import Split
from automl.train.seeding import KeyedDraws, mix

BATCH = 64


@dataclass(frozen=True)
class Data:
    shape: Shape
    train: tuple[Tensor, Tensor]
    valid: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    epochs: int  # of a training from scratch
    search_epochs: int
    orders: tuple[tuple[str, int], ...]  # searches by their order


def tensors(split: Split | None) -> tuple[Tensor, Tensor]:
    assert split is not None and split.x is not None and split.y is not None
    return split.x, split.y


def digits() -> Data:
    task = open_digits(TaskSpec(source="digits"))
    train, valid, test = (tensors(s) for s in (task.train, task.valid, task.test))
    orders = (("first order", 1), ("second order", 2))
    return Data(Shape("image", (1, 8, 8), 10, "classes"), train, valid, test, 12, 20, orders)


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
    shape = Shape("image", (3, 16, 16), 10, "classes")
    train, valid = (x[:2000], y[:2000]), (x[2000:], y[2000:])
    return Data(shape, train, valid, decoded("test", 2000), 8, 12, (("first order", 1),))


def trained(data: Data, edges: dict[str, str], seed: int) -> tuple[float, float, float]:
    """Validation and test accuracy of the cell trained from scratch, and CPU seconds."""
    began = time.process_time()
    torch.manual_seed(mix(seed, "retrain") % 2**63)
    operations = {e: edges[e] for e in CELLS_EDGES}
    net = cells(data.shape, width=8, cells=1, dropout=0.0, **operations)
    x, y = data.train
    per_epoch = math.ceil(len(x) / BATCH)
    sgd = torch.optim.SGD(net.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, data.epochs * per_epoch)
    for _ in range(data.epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            sgd.zero_grad()
            F.cross_entropy(net(x[index]), y[index]).backward()
            sgd.step()
            rate.step()
    net.eval()
    return right(net, *data.valid), right(net, *data.test), time.process_time() - began


@torch.no_grad()
def right(net: nn.Module, x: Tensor, y: Tensor) -> float:
    guessed = torch.cat([net(part) for part in x.split(500)]).argmax(1)
    return float((guessed == y).double().mean())


def searched(data: Data, seed: int, order: int) -> tuple[Search, float]:
    began = time.process_time()
    torch.manual_seed(seed)
    assert METHOD.cells is not None
    hyper = {"width": 8, "cells": 1, "dropout": 0.0}
    candidates = every_candidate(METHOD)
    net = Supernet(data.shape, METHOD.cells, candidates=candidates, hyper=hyper, seed=seed)
    search = Search(net, *data.train, Settings(order=order, seed=seed, epochs=data.search_epochs))
    search.run()
    return search, time.process_time() - began


def random_cell(seed: int, number: int) -> dict[str, str]:
    draws = KeyedDraws([mix(seed, "cell", number)]).at(0).uniform(len(CELLS_EDGES))[0].tolist()
    return {
        e: CELLS_OPERATIONS[int(u * len(CELLS_OPERATIONS))]
        for e, u in zip(CELLS_EDGES, draws, strict=True)
    }


def best_random(data: Data, seed: int, seconds: float) -> tuple[list[float], list[float]]:
    """(validation, test) of the best on validation, and the test values of all cells drawn."""
    found: list[tuple[float, float, float]] = []
    while not found or sum(s for *_, s in found) < seconds:
        found.append(trained(data, random_cell(seed, len(found)), seed))
    return list(max(found)[:2]), [test for _, test, _ in found]


def best_tpe(data: Data, seed: int, seconds: float) -> tuple[list[float], int]:
    """(validation, test) of the best cell on validation that TPE asked for, and how many."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    found: list[tuple[float, float, float]] = []
    while not found or sum(s for *_, s in found) < seconds:
        trial = study.ask()
        cell = {e: trial.suggest_categorical(e, CELLS_OPERATIONS) for e in CELLS_EDGES}
        found.append(trained(data, cell, seed))
        study.tell(trial, found[-1][0])
    return list(max(found)[:2]), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", choices=("digits", "cifar10"), default="digits")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = digits() if given.on == "digits" else cifar10(given.data)
    found: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        for label, order in (*data.orders, ("perturbation", 1)):
            search, seconds = searched(data, seed, order)
            before = search.supernet_accuracy()
            began = time.process_time()
            edges = perturbation(search) if label == "perturbation" else argmax(search.net)
            seconds += time.process_time() - began
            for edge, name in edges.items():
                search.net.restrict(edge, [name])
            after = search.supernet_accuracy()
            _, test, training = trained(data, edges, seed)
            found.setdefault(label, []).append(test)
            print(
                f"seed {seed}  {label:13}  test {test:.3f}  search {seconds:.1f} s,"
                f" training {training:.1f} s  supernet {before:.3f} -> {after:.3f}"
                f"  {' '.join(edges[e] for e in CELLS_EDGES)}",
                flush=True,
            )
        (_, best), each = best_random(data, seed, seconds + training)
        (_, tpe), asked = best_tpe(data, seed, seconds + training)
        found.setdefault("random, best of equal cost", []).append(best)
        found.setdefault("TPE, best of equal cost", []).append(tpe)
        found.setdefault("random, each", []).extend(each)
        print(
            f"seed {seed}  random {best:.3f} of {len(each)} cells  TPE {tpe:.3f} of {asked}",
            flush=True,
        )
    for label, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        low, high = min(values), max(values)
        print(
            f"{label:27}  mean {statistics.mean(values):.3f}  sd {spread:.3f}"
            f"  {low:.3f} .. {high:.3f}"
        )


if __name__ == "__main__":
    main()
