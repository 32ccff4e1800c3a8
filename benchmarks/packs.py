"""Packs beside the loops that they replace: CPU time a member and update, one thread.

    .venv/bin/python benchmarks/packs.py [CASE ...] [--sizes 1,2,4,8] [--rounds 5]

Baselines, each training K models one after the other in this process on the same batches:

    plain      torch's model and AdamW as torch makes it, cosine schedule
    fused      the same with AdamW(fused=True), the fairer one
    loop       our own loop, K = 1: what --pack off runs

A pack is what --pack K runs: augmentation, schedule, optimizer and reading the losses included.
Rounds of all take turns, so that a busy machine slows all of them; a ratio is the median of the
rounds' ratios. Members have their own lr, decay and seed. Peak memory is the process's, measured
anew for each size. `auto` is what the probe of a study chooses.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.stages import Architecture, Shape
from automl.recipe import Recipe
from automl.records import TaskCard
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split
from automl.train.probing import forget_peak, peak_mib, probe
from automl.train.step import Program

SAMPLES = 2048
# The allocator as workers have it; it reads its environment when a process starts.
_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184",
         "MALLOC_TOP_PAD_": "67108864"}  # fmt: skip
Walk = Callable[[int], None]  # make so many updates of all members


@dataclass(frozen=True)
class Case:
    about: str
    architecture: str
    shape: Shape
    batch: int
    values: dict[str, Value]


CASES = {
    "mlp-table": Case(
        "MLP 30-128-128-2, batch 64", "mlp", Shape("vector", (30,), 2, "classes"), 64, {}
    ),
    "mlp-digits": Case(
        "MLP 64-128-128-10, batch 64", "mlp", Shape("image", (1, 8, 8), 10, "classes"), 64, {}
    ),
    "convnet": Case(
        "convnet 1-16-32 at 8x8, no norm, batch 64",
        "convnet",
        Shape("image", (1, 8, 8), 10, "classes"),
        64,
        {"norm": "none", "depth": 2},
    ),
    "convnet-bn": Case(
        "convnet 1-16-32-64 at 8x8, batch norm, batch 64",
        "convnet",
        Shape("image", (1, 8, 8), 10, "classes"),
        64,
        {"norm": "batch"},
    ),
    "resnet": Case(
        "ResNet 16-32-64 at 8x8, batch norm, batch 64",
        "resnet",
        Shape("image", (1, 8, 8), 10, "classes"),
        64,
        {},
    ),
    "transformer": Case(
        "transformer 2x64, 32 tokens, batch 16",
        "transformer",
        Shape("tokens", (32,), 64, "tokens", vocabulary=64),
        16,
        {},
    ),
}


def task_of(case: Case) -> ModelTask:
    shape, draws = case.shape, torch.Generator().manual_seed(0)
    if shape.kind == "tokens":
        text = torch.randint(shape.vocabulary, (SAMPLES, shape.features[0] + 1), generator=draws)
        split = Split(text[:, :-1].contiguous(), text[:, 1:].contiguous())
    else:
        x = torch.randn(SAMPLES, *shape.features, generator=draws)
        split = Split(x, torch.randint(shape.outputs, (SAMPLES,), generator=draws))
    card = TaskCard("bench", shape.kind, "accuracy", "maximize", [], 10**6, 100, case.batch)

    def build(recipe: Recipe) -> nn.Module:
        method = family("architecture").get(case.architecture)
        assert isinstance(method, Architecture)
        return method.network(shape, case.values)

    return ModelTask(card, shape, split, split, None, build, None, lambda outputs, targets: {})


def recipes(k: int) -> list[Recipe]:
    return [
        Recipe(
            {"optimizer": "adamw", "optimizer.adamw.lr": 1e-3 * 0.97**i, "schedule": "cosine",
             "optimizer.adamw.wd": 1e-2 * 0.97**i},
            steps=10**6, seed=i,
        )
        for i in range(k)
    ]  # fmt: skip


def packed(task: ModelTask, k: int) -> Walk:
    program = Program(task, recipes(k), engine="traced" if k > 1 else "loop")

    def walk(updates: int) -> None:
        program.begin(program.updates + updates)
        for _ in range(updates):
            program.step().tolist()  # as a segment does, to see a divergence

    return walk


def looped(task: ModelTask, k: int) -> Walk:
    walks = [packed(task, 1) for _ in range(k)]

    def walk(updates: int) -> None:
        for one in walks:
            one(updates)

    return walk


def plain(task: ModelTask, k: int, *, fused: bool) -> Walk:
    x, y = task.train.x, task.train.y
    assert x is not None and y is not None
    walks = []
    for recipe in recipes(k):
        torch.manual_seed(recipe.seed)
        walks.append(_plain_one(task.build(recipe).train(), x, y, task.card.batch_size, fused))

    def walk(updates: int) -> None:
        for one in walks:
            one(updates)

    return walk


def _plain_one(model: nn.Module, x: Tensor, y: Tensor, batch: int, fused: bool) -> Walk:
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, 10**6)

    def walk(updates: int) -> None:
        order = torch.randperm(len(x))
        for update in range(updates):
            first = update * batch % (len(x) - batch)
            rows = order[first : first + batch]
            output = model(x[rows])
            loss = F.cross_entropy(output.flatten(0, -2), y[rows].flatten())
            adamw.zero_grad()
            loss.backward()
            adamw.step()
            schedule.step()
            loss.item()  # every loop that reports its loss reads it

    return walk


def measured(walks: list[Walk], updates: int, rounds: int) -> list[list[float]]:
    """CPU seconds of each walk in each round."""
    for walk in walks:
        walk(3)
    table = []
    for _ in range(rounds):
        row = []
        for walk in walks:
            began = time.process_time()
            walk(updates)
            row.append(time.process_time() - began)
        table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Packs beside the loops that they replace.")
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--sizes", default="1,2,4,8,16,32,64")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if "MALLOC_MMAP_MAX_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_HEAP})
    torch.set_num_threads(1)
    for name in given.cases:
        case = CASES[name]
        task = task_of(case)
        found = probe(task, recipes(1)[0], 64)
        chosen = f"{found.size} together ({found.gain:.2f}x)" if found.size > 1 else "alone"
        print(f"\n{name}: {case.about}; auto: {chosen} {found.reason}")
        print(f"{'K':>4} {'ms a member':>12} {'x plain':>8} {'x fused':>8} {'x loop':>8} "
              f"{'spread':>14} {'peak MiB':>9}")  # fmt: skip
        for k in [int(size) for size in given.sizes.split(",")]:
            others = [
                plain(task, k, fused=False), plain(task, k, fused=True), looped(task, k),
            ]  # fmt: skip
            pack = packed(task, k)
            updates = max(4, int(200 / k))
            rows = measured([pack, *others], updates, given.rounds)
            del others
            forget_peak()
            pack(2)
            ratios = [statistics.median(row[i] / row[0] for row in rows) for i in (1, 2, 3)]
            spread = [row[1] / row[0] for row in rows]
            each = statistics.median(row[0] for row in rows) / updates / k * 1000
            print(f"{k:4} {each:12.3f} " + " ".join(f"{r:8.2f}" for r in ratios)
                  + f"   {min(spread):5.2f} to {max(spread):4.2f} {peak_mib():8.0f}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
