"""An opened task: what a worker trains on. The driver only ever sees its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

from automl.methods.stages import Hyper, Shape
from automl.recipe import Recipe
from automl.records import TaskCard
from automl.space.ranges import Value
from automl.tasks.teacher import Teacher


@dataclass(frozen=True)
class Split:
    """Samples of one split: tensors that fit in memory, or a map-style dataset of (x, y) pairs.

    x [n, ...] float32, or int64 for tokens; y [n] int64 (classes), [n, outputs] float32 (values)
    or [n, t] int64 (next tokens).
    """

    x: Tensor | None = None
    y: Tensor | None = None
    dataset: Dataset[tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self.dataset if self.x is None else self.x)  # type: ignore[arg-type]


Evaluate = Callable[[Tensor, Tensor], Mapping[str, Tensor | float]]
"""Of outputs [n, ...] and targets [n, ...], a whole split: {"accuracy": ..., "loss": ...}.

0-dim tensors on the outputs' device, which are read later, or numbers; a number is nan where an
output is not finite, a tensor need not be."""


@dataclass(frozen=True)
class ModelTask:
    """A task that we train: a model, data and a metric."""

    card: TaskCard
    shape: Shape
    train: Split
    valid: Split
    test: Split | None
    build: Callable[[Recipe], nn.Module]  # plain torch; initialized from torch's global generator
    loss: Callable[[Tensor, Tensor, Hyper], Tensor] | None  # the user's own, instead of a method
    evaluate: Evaluate
    teacher: Teacher | None = None  # for a loss that learns from another network's outputs
    arguments: Callable[[Recipe], Mapping[str, Value]] = lambda recipe: {}
    # What makes the recipe's model, by name, with the defaults that the recipe leaves out.


class Handle(Protocol):
    """What a user's `def train(trial)` is given."""

    recipe: Mapping[str, Value]  # the point's values by name; also trial.recipe["lr"]
    seed: int
    start: int  # steps already trained; 0, or where trial.checkpoint was left
    stop: int  # train up to here now
    steps: int  # length of a full training

    @property
    def checkpoint(self) -> Path:
        """A folder to go on from (start > 0) and to write to; made when first asked for."""

    def report(self, step: int, metrics: Mapping[str, float] | float) -> None:
        """Tell a result; raises to end the training when the trial is to stop."""


@dataclass(frozen=True)
class LoopTask:
    """A task that trains itself: a function of the user's, or a command line."""

    card: TaskCard
    train: Callable[[Handle], object]


Task = ModelTask | LoopTask
