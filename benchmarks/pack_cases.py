"""The models that `packs.py` measures, on random data, and the recipes of a pack's members."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from automl.methods.stages import Architecture, Shape
from automl.recipe import Recipe
from automl.records import TaskCard
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split

SAMPLES = 2048
UPDATES = 10**6  # of a whole training, which no measurement comes to the end of


@dataclass(frozen=True)
class Case:
    about: str
    architecture: str
    shape: Shape
    batch: int
    values: dict[str, Value]


_DIGITS = Shape("image", (1, 8, 8), 10, "classes")
CASES = {
    "mlp-table": Case(
        "MLP 30-128-128-2, batch 64", "mlp", Shape("vector", (30,), 2, "classes"), 64, {}
    ),
    "mlp-digits": Case("MLP 64-128-128-10, batch 64", "mlp", _DIGITS, 64, {}),
    "convnet": Case(
        "convnet 1-16-32 at 8x8, no norm, batch 64", "convnet", _DIGITS, 64,
        {"norm": "none", "depth": 2},
    ),
    "convnet-bn": Case(
        "convnet 1-16-32-64 at 8x8, batch norm, batch 64", "convnet", _DIGITS, 64,
        {"norm": "batch"},
    ),
    "resnet": Case("ResNet 16-32-64 at 8x8, batch norm, batch 64", "resnet", _DIGITS, 64, {}),
    "transformer": Case(
        "transformer 2x64, 32 tokens, batch 16", "transformer",
        Shape("tokens", (32,), 64, "tokens", vocabulary=64), 16, {},
    ),
}  # fmt: skip


def task_of(case: Case, device: str = "cpu") -> ModelTask:
    shape, draws = case.shape, torch.Generator().manual_seed(0)
    if shape.kind == "tokens":
        text = torch.randint(shape.vocabulary, (SAMPLES, shape.features[0] + 1), generator=draws)
        split = Split(text[:, :-1].contiguous(), text[:, 1:].contiguous())
    else:
        x = torch.randn(SAMPLES, *shape.features, generator=draws)
        split = Split(x, torch.randint(shape.outputs, (SAMPLES,), generator=draws))
    card = TaskCard("bench", shape.kind, "accuracy", "maximize", [], UPDATES, 100, case.batch)
    card = replace(card, device=device)

    def build(recipe: Recipe) -> nn.Module:
        method = family("architecture").get(case.architecture)
        assert isinstance(method, Architecture)
        return method.network(shape, case.values)

    return ModelTask(card, shape, split, split, None, build, None, lambda outputs, targets: {})


def recipes(k: int, precision: str = "float32") -> list[Recipe]:
    """Of members with their own rate, decay and seed."""
    return [
        Recipe(
            {"optimizer": "adamw", "optimizer.adamw.lr": 1e-3 * 0.97**i, "schedule": "cosine",
             "optimizer.adamw.wd": 1e-2 * 0.97**i, "precision": precision},
            steps=UPDATES, seed=i,
        )
        for i in range(k)
    ]  # fmt: skip
