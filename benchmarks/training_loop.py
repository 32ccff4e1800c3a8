"""What our training loop costs beside a plain torch loop: CPU time a step, one member.

    .venv/bin/python benchmarks/training_loop.py

Same model, same batches drawn by index, same losses, AdamW (torch's foreach and, for reference,
its fused one) with a cosine schedule. Rounds of the loops take turns, so that a busy machine
slows all of them; the ratio is the median of the rounds' ratios, with their quartiles.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.digits import open_digits
from automl.train.step import Program

ROUNDS, STEPS, BATCH = 15, 150, 64
COMMON: dict[str, Value] = {
    "optimizer": "adamw", "optimizer.adamw.lr": 1e-3, "schedule": "cosine", "batch_size": BATCH,
}  # fmt: skip
MODELS = {"MLP 64-128-128-10": "mlp", "convnet 8x8": "convnet"}
Walk = Callable[[int], None]  # make so many updates


def point_of(architecture: str) -> dict[str, Value]:
    ranges = family("architecture").get(architecture).ranges
    defaults = {f"architecture.{architecture}.{n}": r.default for n, r in ranges.items()}
    return {**COMMON, "architecture": architecture, **defaults}


def ours(point: dict[str, Value]) -> Walk:
    program = Program(open_digits(TaskSpec("digits", device="cpu")), [Recipe(point, steps=10**6)])

    def walk(steps: int) -> None:
        program.begin(program.updates + steps)
        for _ in range(steps):
            program.step().tolist()  # as the segment does, to see a divergence

    return walk


def plain(point: dict[str, Value], *, fused: bool) -> Walk:
    task = open_digits(TaskSpec("digits", device="cpu"))
    x, y = task.train.x, task.train.y
    assert x is not None
    assert y is not None
    model: nn.Module = task.build(Recipe(point, steps=1)).train()
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=not fused, fused=fused)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, 10**6)

    def walk(steps: int) -> None:
        order = torch.randperm(len(x))
        for step in range(steps):
            first = step * BATCH % (len(x) - BATCH)
            rows = order[first : first + BATCH]
            loss = F.cross_entropy(model(x[rows]), y[rows])
            adamw.zero_grad()
            loss.backward()
            adamw.step()
            schedule.step()
            loss.item()  # every loop that reports its loss reads it

    return walk


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{'CPU ms a step':20} {'ours':>7} {'foreach':>8} {'fused':>7}   ours/foreach    ours/fused"
    )
    for name, architecture in MODELS.items():
        point = point_of(architecture)
        walks = [ours(point), plain(point, fused=False), plain(point, fused=True)]
        for walk in walks:
            walk(50)
        times: list[list[float]] = []
        for _ in range(ROUNDS):
            row = []
            for walk in walks:
                began = time.process_time()
                walk(STEPS)
                row.append((time.process_time() - began) / STEPS * 1000)
            times.append(row)
        a, b, c = (statistics.median(column) for column in zip(*times, strict=True))
        low, middle, high = statistics.quantiles([row[0] / row[1] for row in times], n=4)
        fused = statistics.median(row[0] / row[2] for row in times)
        spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        print(f"{name:20} {a:7.3f} {b:8.3f} {c:7.3f}   {spread}    {fused:.2f}")


if __name__ == "__main__":
    main()
