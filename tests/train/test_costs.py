"""What a network costs, by hand; and that asking for it changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from automl.aims import Aims, Objective
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment
from automl.tasks.task import ModelTask
from automl.train.segment import run

from .small_problem import PLAIN, small_task

AIMS = Aims(
    (
        Objective("val/accuracy", "maximize"),
        *(Objective(f"cost/{n}", "minimize") for n in ("params", "size", "memory", "latency")),
    )
)


def perceptron(recipe: Recipe) -> nn.Module:
    """2 -> 8 -> 2: 16 + 8 + 16 + 2 = 42 weights."""
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))


def asked(task: ModelTask) -> ModelTask:
    return replace(task, card=replace(task.card, aims=AIMS))


def trained(task: ModelTask, folder: Path, *, size: int = 1) -> Report:
    recipe = Recipe({**PLAIN, "batch_size": 16}, steps=10, seed=3)
    segments = tuple(Segment(n, replace(recipe, seed=3 + n), 0, 10) for n in range(size))
    pack = Pack(segments, str(folder), size=size, places=tuple(range(size)))
    return run(pack, task)[0]


def test_the_costs_of_a_perceptron_by_hand(tmp_path: Path) -> None:
    report = trained(asked(small_task(perceptron)), tmp_path)
    (_, first), (_, last) = report.curve
    assert last["cost/params"] == 42
    assert last["cost/size"] == 4 * 42
    # Weights, gradients, both moments of AdamW: 4 x 42 numbers, and a few of the trainer's own;
    # for the backward pass 16 samples of 2 inputs, and of 8 values behind the ReLU.
    least = 4 * (4 * 42 + 16 * 2 + 16 * 8) / 2**20
    assert least <= last["cost/memory"] < 2 * least
    assert 0 < last["cost/latency"] < 1000
    assert first["cost/latency"] == last["cost/latency"]  # measured once a segment


def test_costs_change_nothing_else_and_a_pack_has_the_same_counts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = trained(small_task(), tmp_path / "plain")
    with_costs = trained(asked(small_task()), tmp_path / "costs")
    for (_, without), (_, metrics) in zip(plain.curve, with_costs.curve, strict=True):
        assert {n: v for n, v in metrics.items() if not n.startswith("cost/")} == without
    packed = trained(asked(small_task()), tmp_path / "packed", size=2)
    for name in ("cost/params", "cost/size", "cost/memory"):
        assert packed.curve[-1][1][name] == with_costs.curve[-1][1][name]
