"""The training step: every stage of a recipe, in order, for all members of a pack.

    batch -> model + loss -> gradient -> transform -> optimizer x schedule -> averaging

Forward and backward run member by member (the loop engine); everything else acts on [k, ...] at
once. Members of a pack share their structure: the task, the architecture, the batch size and the
names of the methods. What differs between them are numbers and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import (
    Averaging,
    Batch,
    BatchMethod,
    Gradient,
    Hyper,
    Loss,
    Optimizer,
    Schedule,
    State,
    Transform,
    hyper_tensors,
)
from automl.recipe import Recipe
from automl.registry import Method, family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split
from automl.train.packed import Members
from automl.train.seeding import FORWARD, INITIAL, DataOrder, KeyedDraws, mix

_ABSENT = {
    "batch": "none", "gradient": "plain", "transform": "none", "schedule": "constant",
    "averaging": "none",
}  # fmt: skip


@dataclass
class Stage:
    """A method in its place, with the members' hyperparameters and its own state."""

    method: Method
    values: list[Mapping[str, Value]]
    hyper: Hyper
    state: State


class Program:
    """Trains the members of a pack, one step at a time; holds all that a checkpoint must.

    Raises:
        RecipeError: the members differ in structure, or a method does not serve this task.
    """

    def __init__(self, task: ModelTask, recipes: Sequence[Recipe]) -> None:
        self.task = task
        self.recipes = recipes
        self.device = torch.device(task.card.device)
        self.seeds = [r.seed for r in recipes]
        self.members = Members([self._module(r) for r in recipes])
        self.batch_size = int(cast(int, recipes[0].point.get("batch_size", task.card.batch_size)))
        self.total = self.updates_at(recipes[0].steps)
        self.updates = 0
        self.loss_sum = torch.zeros(len(recipes), device=self.device, dtype=torch.float64)
        self.loss_count = 0
        self._orders = [DataOrder(len(task.train), seed=s) for s in self.seeds]
        self._batches = self._stages("batch")
        self._losses = [] if task.loss else self._stages("loss")
        (self._gradient,) = self._stages("gradient")
        self._transforms = self._stages("transform")
        (self._optimizer,) = self._stages("optimizer")
        (self._schedule,) = self._stages("schedule")
        (self._averaging,) = self._stages("averaging")
        self._serves()
        self.passes_per_step = (
            cast(Gradient, self._gradient.method).passes
            * cast(Optimizer, self._optimizer.method).passes
        )
        self._mixed = self.device.type == "cuda"

    def updates_at(self, steps: int) -> int:
        """Optimizer updates made after `steps` study steps."""
        return max(1, round(steps * self.task.card.batch_size / self.batch_size))

    def _module(self, recipe: Recipe) -> nn.Module:
        torch.manual_seed(mix(recipe.seed, INITIAL))
        return self.task.build(recipe).to(self.device)

    def _stages(self, key: str) -> list[Stage]:
        chosen = [r.stage(key) or [(_ABSENT.get(key, ""), {})] for r in self.recipes]
        names = [[name for name, _ in c] for c in chosen]
        if any(n != names[0] for n in names) or not names[0][0]:
            found = " and ".join("+".join(n) or "nothing" for n in names[:2])
            raise RecipeError(f"{key}: the recipe asks for {found}")
        w, stages = self.members.w, []
        for i, name in enumerate(names[0]):
            method = family(key).get(name)
            defaults = {h: r.default for h, r in method.ranges.items()}
            values: list[Mapping[str, Value]] = [{**defaults, **c[i][1]} for c in chosen]
            hyper = hyper_tensors(values, device=w.device, dtype=w.dtype)
            init = getattr(method, "init", None)
            state = init(w, self.members.layout) if init else {}
            stages.append(Stage(method, values, hyper, state))
        return stages

    def _serves(self) -> None:
        shape = self.task.shape
        for stage in self._batches:
            if shape.kind not in cast(BatchMethod, stage.method).kinds:
                raise RecipeError(f"this batch method does not serve {shape.kind} data")
        for stage in self._losses:
            if shape.target not in cast(Loss, stage.method).targets:
                raise RecipeError(f"this loss does not serve a target of {shape.target}")

    # One step -------------------------------------------------------------------------------

    def step(self) -> Tensor:
        """Make one optimizer update of every member; the training loss [k]."""
        k, w, layout = len(self.recipes), self.members.w, self.members.layout
        draws = KeyedDraws(self.seeds, [self.updates] * k, self.device)
        batch = self._batch()
        for stage in self._batches:
            batch = cast(BatchMethod, stage.method).apply(batch, draws, stage.hyper)
        t = torch.full((k, 1), float(self.updates + 1), device=self.device, dtype=w.dtype)

        def closure(statistics: bool = True) -> tuple[Tensor, Tensor]:
            return self._forward_backward(batch, statistics)

        at = self._gradient
        loss, g = cast(Gradient, at.method).compute(closure, w, at.state, at.hyper, t)
        with torch.no_grad():
            for at in self._transforms:
                cast(Transform, at.method).apply(g, w, at.state, at.hyper, t, layout, draws)
            at = self._optimizer
            hyper = self._scheduled(at)
            cast(Optimizer, at.method).step(w, g, at.state, hyper, t, layout)
            at = self._averaging
            horizon = torch.full_like(t, float(self.total))
            cast(Averaging, at.method).update(w, at.state, at.hyper, t, horizon)
        self.updates += 1
        self.loss_sum += loss
        self.loss_count += 1
        return loss

    def _batch(self) -> Batch:
        index = [o.batch(self.updates, self.batch_size) for o in self._orders]
        x, y = gather(self.task.train, torch.stack(index), self.device)
        return Batch(x, y)

    def _forward_backward(self, batch: Batch, statistics: bool) -> tuple[Tensor, Tensor]:
        self.members.g.zero_()
        kept = [] if statistics else [(b, b.clone()) for b in self.members.statistics()]
        losses = []
        with torch.enable_grad():
            for k, module in enumerate(self.members.modules):
                module.train()
                # The user's own randomness (dropout) too belongs to the trial and the step.
                torch.manual_seed(mix(self.seeds[k], self.updates, FORWARD))
                with self.precision():
                    output = module(batch.x[k])
                loss = self._loss(output, batch, k)
                loss.backward()
                losses.append(loss.detach())
        for buffer, before in kept:
            buffer.copy_(before)
        return torch.stack(losses), self.members.g

    def _loss(self, output: Tensor, batch: Batch, k: int) -> Tensor:
        if output.dtype in (torch.float16, torch.bfloat16):
            output = output.float()
        value = self.sample_loss(output, batch.y[k], k)
        if batch.y2 is not None and batch.weight is not None:
            weight = batch.weight[k]
            value = weight * value + (1 - weight) * self.sample_loss(output, batch.y2[k], k)
        return value.mean()

    def sample_loss(self, output: Tensor, target: Tensor, k: int) -> Tensor:
        """Loss [b] of member k; a user's loss may be a scalar."""
        if self.task.loss is not None:
            return self.task.loss(output, target, {})
        (stage,) = self._losses
        hyper = {name: v[k, 0] for name, v in stage.hyper.items()}
        return cast(Loss, stage.method).value(output, target, hyper)

    def precision(self) -> Any:
        """bfloat16 autocast on CUDA; nothing on the CPU."""
        return torch.autocast("cuda", torch.bfloat16) if self._mixed else nullcontext()

    def _scheduled(self, optimizer: Stage) -> dict[str, Tensor]:
        schedule = cast(Schedule, self._schedule.method)
        hyper = dict(optimizer.hyper)
        factors = self._walk(schedule.factor)
        hyper["factor"] = factors
        if "lr" in hyper:
            hyper["lr"] = hyper["lr"] * factors
        if schedule.momentum is not None:
            first = next((n for n in ("momentum", "b1") if n in hyper), None)
            if first is not None:
                hyper[first] = self._walk(schedule.momentum)
        return hyper

    def _walk(self, policy: Any) -> Tensor:
        w = self.members.w
        values = [[policy(self.updates, self.total, **v)] for v in self._schedule.values]
        return torch.tensor(values, device=w.device, dtype=w.dtype)

    def lr(self) -> list[float]:
        """Learning rate of the last update, each member."""
        if "lr" not in self._optimizer.hyper:
            return [float("nan")] * len(self.recipes)
        schedule = cast(Schedule, self._schedule.method)
        at = max(self.updates - 1, 0)
        factors = [schedule.factor(at, self.total, **v) for v in self._schedule.values]
        base = self._optimizer.hyper["lr"][:, 0].tolist()
        return [b * f for b, f in zip(base, factors, strict=True)]

    # What to evaluate, and what to keep -----------------------------------------------------

    def evaluated(self) -> Tensor:
        """Weights [k, p] to evaluate and keep; `members.w` itself where no average is taken."""
        w, at = self.members.w, self._optimizer
        optimizer = cast(Optimizer, at.method)
        averaged = self._averaging
        found = cast(Averaging, averaged.method).evaluated(w, averaged.state, averaged.hyper)
        if found is w and optimizer.evaluated is not None:
            return optimizer.evaluated(w, at.state, at.hyper)
        return found

    def state(self, k: int) -> dict[str, Tensor]:
        """All that member k needs to go on bit for bit, by name."""
        tensors = {"w": self.members.w[k]}
        for name, buffer in self.members.modules[k].named_buffers():
            tensors[f"buffer/{name}"] = buffer
        for key, stage in self._keyed_stages():
            for name, value in stage.state.items():
                tensors[f"{key}/{name}"] = value[k]
        return tensors

    def load(self, k: int, tensors: Mapping[str, Tensor]) -> None:
        """Set member k to what `state` gave."""
        self.members.w[k].copy_(tensors["w"])
        for name, buffer in self.members.modules[k].named_buffers():
            buffer.copy_(tensors[f"buffer/{name}"])
        for key, stage in self._keyed_stages():
            for name, value in stage.state.items():
                value[k].copy_(tensors[f"{key}/{name}"])

    def _keyed_stages(self) -> list[tuple[str, Stage]]:
        stages = [("gradient", self._gradient), ("optimizer", self._optimizer)]
        stages += [(f"transform{i}", s) for i, s in enumerate(self._transforms)]
        return [*stages, ("averaging", self._averaging)]


def gather(split: Split, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples `index` [...] of a split, as (x [..., *], y [..., *]) on `device`."""
    if split.x is not None and split.y is not None:
        index = index.to(split.x.device)
        return split.x[index].to(device), split.y[index].to(device)
    assert split.dataset is not None
    pairs = [split.dataset[i] for i in index.flatten().tolist()]
    x = torch.stack([torch.as_tensor(a) for a, _ in pairs])
    y = torch.stack([torch.as_tensor(b) for _, b in pairs])
    shape = index.shape
    return x.unflatten(0, shape).to(device), y.unflatten(0, shape).to(device)
