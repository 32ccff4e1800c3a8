"""A two-feature classification problem, and recipes that touch every part of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from automl.methods.stages import Shape
from automl.recipe import Recipe
from automl.records import Pack, Segment, TaskCard
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split

BATCH = 16

PLAIN: dict[str, Value] = {
    "optimizer": "adamw",
    "optimizer.adamw.lr": 1e-2,
    "optimizer.adamw.wd": 1e-2,
    "schedule": "cosine",
}
RECIPES: dict[str, dict[str, Value]] = {
    "adamw, dropout, mixup, ema": {
        **PLAIN,
        "batch": "mixup",
        "averaging": "ema",
        "averaging.ema.forget": 0.1,
    },
    "sgd, one cycle, sam, swa": {
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.1,
        "schedule": "one_cycle",
        "gradient": "sam",
        "averaging": "swa",
        "averaging.swa.start": 0.5,
        "transform": "clip_norm",
    },
    "schedule-free, smaller batch": {
        "optimizer": "schedule_free_adamw",
        "batch": "feature_noise",
        "batch_size": 8,
    },
    "sophia, dropout, mixup, smaller batch": {
        "optimizer": "sophia_g",
        "optimizer.sophia_g.lr": 1e-2,
        "batch": "mixup",
        "batch_size": 8,
    },
    "muon, larger batch": {"optimizer": "muon", "schedule": "wsd", "batch_size": 24},
}

IMAGES: dict[str, dict[str, Value]] = {
    "adam, flip and crop, cutmix, batch norm": {
        "optimizer": "adam",
        "optimizer.adam.lr": 1e-2,
        "schedule": "linear",
        "batch": "flip_crop+cutmix",
        "loss": "cross_entropy",
        "loss.cross_entropy.smoothing": 0.1,
        "batch_size": 12,
    },
    "lion, cutout, sam, ema": {
        "optimizer": "lion",
        "optimizer.lion.lr": 1e-3,
        "gradient": "sam",
        "batch": "cutout",
        "averaging": "ema",
        "averaging.ema.forget": 0.1,
    },
}


def samples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """x [n, 2], y [n] in {0, 1}: inside or outside of a circle."""
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return x, (x.norm(dim=1) > 1.2).long()


def network(recipe: Recipe) -> nn.Module:
    """Batch norm and dropout: what a resume may forget."""
    return nn.Sequential(
        nn.Linear(2, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(float(str(recipe.point.get("model.dropout", 0.2)))),
        nn.Linear(16, 16),
        nn.ReLU(),
        nn.Linear(16, 2),
    )


def pictures(n: int, seed: int) -> Split:
    """x [n, 1, 8, 8]: a bright row or a bright column, in noise."""
    draws = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(n, 1, 8, 8, generator=draws)
    y = torch.randint(2, (n,), generator=draws)
    place = torch.randint(8, (n,), generator=draws)
    for i, (c, at) in enumerate(zip(y.tolist(), place.tolist(), strict=True)):
        line = x[i, 0, at] if c == 0 else x[i, 0, :, at]
        line += 2
    return Split(x, y)


def convolutions(recipe: Recipe) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def picture_task() -> ModelTask:
    return replace(
        small_task(convolutions),
        shape=Shape("image", (1, 8, 8), 2, "classes"),
        train=pictures(60, 0),
        valid=pictures(40, 1),
        test=None,
    )


def task_of(name: str) -> ModelTask:
    """The task that one of RECIPES or IMAGES is for."""
    return picture_task() if name in IMAGES else small_task()


def accuracy(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {"accuracy": (outputs.argmax(-1) == targets).double().mean()}


def small_task(
    build: Callable[[Recipe], nn.Module] = network,
    *,
    loss: Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    eval_steps: int = 5,
    train: Split | None = None,
) -> ModelTask:
    card = TaskCard(
        name="circle",
        kind="vector",
        metric="accuracy",
        direction="maximize",
        space=[],
        steps=20,
        eval_steps=eval_steps,
        batch_size=BATCH,
    )
    return ModelTask(
        card=card,
        shape=Shape("vector", (2,), 2, "classes"),
        train=train or Split(*samples(100, 0)),
        valid=Split(*samples(80, 1)),
        test=Split(*samples(80, 2)),
        build=build,
        loss=loss,
        evaluate=accuracy,
    )


def segment(
    point: Mapping[str, Value] = PLAIN,
    start: int = 0,
    stop: int = 20,
    *,
    trial: int = 0,
    seed: int = 0,
    parent: tuple[int, int] | None = None,
) -> Segment:
    if parent is None and start > 0:
        parent = (trial, start)
    return Segment(trial, Recipe(point, steps=20, seed=seed), start, stop, parent)


def pack(folder: Path, *segments: Segment, test: bool = False) -> Pack:
    return Pack(segments, str(folder), test)


def in_float64(point: Mapping[str, Value]) -> dict[str, Value]:
    return {**point, "precision": "float64"}


def longer(one: Segment, steps: int) -> Segment:
    return replace(one, recipe=replace(one.recipe, steps=steps), stop=steps)
