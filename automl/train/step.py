"""The training step: every stage of a recipe, in order, for all members of a pack.

    batch -> model + loss -> gradient -> transform -> optimizer x schedule -> averaging

An engine makes forward and backward: member by member, each with its own module (the loop), or
all members as one traced program. Everything else acts on [k, ...] at once. Members share their
structure: the task, the architecture, the batch size and the names of the methods. What differs
between them are numbers and seeds.

Shapes: k members, p weights, b samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import torch
from torch import Tensor

from automl.errors import RecipeError, TaskError
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
from automl.tasks.task import ModelTask
from automl.train.data import Feed
from automl.train.loop_engine import LoopEngine
from automl.train.packed import Packed
from automl.train.seeding import KeyedDraws, mix, seed_torch
from automl.train.structure import structure

if TYPE_CHECKING:
    from automl.train.traced_engine import TracedEngine

M = TypeVar("M", bound=Method)
EngineName = Literal["loop", "traced"]

_ABSENT = {"gradient": "plain", "schedule": "constant"}  # of a stage that the recipe leaves out
_LOSSES = {"classes": "cross_entropy", "tokens": "cross_entropy", "values": "mse"}
_PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


@dataclass
class Stage:
    """A method in its place: each member's values, the same as tensors [k, 1], and its state."""

    key: str  # "optimizer", "transform.0" ... : names its state in a checkpoint
    method: Method
    values: list[Mapping[str, Value]]
    hyper: dict[str, Tensor]
    state: State = field(default_factory=dict)


class Program:
    """Trains the members of a pack, one update at a time; holds all that a checkpoint must.

    Raises:
        RecipeError: the members differ in structure, or a method does not serve this task.
        MethodError: a recipe names a method that does not exist.
    """

    def __init__(
        self, task: ModelTask, recipes: Sequence[Recipe], *, engine: EngineName = "loop"
    ) -> None:
        self.task = task
        self._wanted = engine
        self.recipes = list(recipes)
        self.device = torch.device(task.card.device)
        cuda = self.device.type == "cuda"
        precision = str(recipes[0].point.get("precision", "bfloat16" if cuda else "float32"))
        if precision not in _PRECISIONS:
            raise RecipeError(f"precision '{precision}'; one of {', '.join(_PRECISIONS)}")
        self.dtype = _PRECISIONS[precision]
        self._half = precision == "bfloat16"
        self.batch_size = int(str(recipes[0].point.get("batch_size", task.card.batch_size)))
        self.total = max(1, self.updates_at(recipes[0].steps))
        self.updates = 0
        modules = []
        for recipe in recipes:
            seed_torch(mix(recipe.seed, "initial weights"), self.device)
            modules.append(task.build(recipe))
        self.packed = Packed(modules, device=self.device, dtype=self.dtype)
        self._batches = self._stages("batch")
        self._losses = [] if task.loss else self._stages("loss", _LOSSES[task.shape.target])
        (self._gradient,) = self._stages("gradient")
        self._transforms = self._stages("transform")
        (self._optimizer,) = self._stages("optimizer")
        (self._schedule,) = self._stages("schedule")
        self._averaging = self._stages("averaging")
        self._check_kinds()
        self._seat()
        k = len(self.recipes)
        self._t = torch.zeros(k, 1, dtype=self.dtype, device=self.device)
        self._horizon = torch.full_like(self._t, self.total)
        self.losses = torch.zeros(k, dtype=torch.float64, device=self.device)  # sum since `counted`
        self.counted = 0
        self._checked = False

    @property
    def passes(self) -> float:
        """Forward-backward passes of one update."""
        optimizer = _method(self._optimizer, Optimizer)
        return _method(self._gradient, Gradient).passes * optimizer.passes

    def updates_at(self, steps: int) -> int:
        """Optimizer updates made after `steps` study steps."""
        return round(steps * self.task.card.batch_size / self.batch_size)

    # Making ---------------------------------------------------------------------------------

    def _stages(self, key: str, absent: str = "") -> list[Stage]:
        """The stage's methods in order; "none" is left out where that costs nothing."""
        absent = absent or _ABSENT.get(key, "none")
        chosen = [r.stage(key) or [(absent, {})] for r in self.recipes]
        names = [name for name, _ in chosen[0]]
        if any([name for name, _ in c] != names for c in chosen):
            raise RecipeError(f"members of a pack differ in their {key}")
        w, stages = self.packed.w, []
        for i, name in enumerate(names):
            if name == "none":
                continue
            method = family(key).get(name)
            defaults = {h: r.default for h, r in method.ranges.items()}
            values: list[Mapping[str, Value]] = [{**defaults, **c[i][1]} for c in chosen]
            hyper = hyper_tensors(values, device=w.device, dtype=w.dtype)
            init = getattr(method, "init", None)
            state = init(w, self.packed.layout) if init else {}
            place = f"{key}.{i}" if family(key).chained else key
            stages.append(Stage(place, method, values, hyper, state))
        if not stages and key not in ("batch", "transform", "averaging"):
            raise RecipeError(f"the recipe names no {key}")
        return stages

    def _check_kinds(self) -> None:
        shape = self.task.shape
        for stage in self._batches:
            if shape.kind not in _method(stage, BatchMethod).kinds:
                name = self.recipes[0].point["batch"]
                raise RecipeError(f"batch '{name}' does not serve {shape.kind} data")
        for stage in self._losses:
            if shape.target not in _method(stage, Loss).targets:
                name = self.recipes[0].point.get("loss")
                raise RecipeError(f"loss '{name}' does not serve a target of {shape.target}")

    def _seat(self) -> None:
        """All that depends on who the members are."""
        seeds = [r.seed for r in self.recipes]
        self._draws = KeyedDraws(seeds, self.device)
        self._forward_seeds = [mix(seed, "forward") for seed in seeds]
        self._loss_hyper = {n: h[:, 0] for s in self._losses for n, h in s.hyper.items()}
        self._engine: LoopEngine | TracedEngine
        if self._wanted == "traced" and len(seeds) > 1:
            self._engine = self._traced_engine()
        else:
            self._engine = LoopEngine(self.packed, self._mean_loss, self.precision)
        self._feed = Feed(
            self.task.train,
            seeds=seeds,
            batch_size=self.batch_size,
            device=self.device,
            dtype=self.dtype,
        )

    # One update -----------------------------------------------------------------------------

    def begin(self, until: int) -> None:
        """Prepare for the updates up to `until`: the schedule's table, the data's readers."""
        updates = range(self.updates, until)
        self._feed.begin(updates)
        self._first = self.updates
        schedule, optimizer = _method(self._schedule, Schedule), self._optimizer
        factors = self._table(schedule.factor, updates)
        self._scheduled = {"factor": factors}
        if "lr" in optimizer.hyper:
            base = [float(cast(float, v["lr"])) for v in optimizer.values]
            lrs = self._table(schedule.factor, updates, base)
            self._scheduled["lr"] = lrs
        if schedule.momentum is not None:
            first = next((n for n in ("momentum", "b1") if n in optimizer.hyper), None)
            if first is not None:
                self._scheduled[first] = self._table(schedule.momentum, updates)

    def _traced_engine(self) -> TracedEngine:
        from automl.train.traced_engine import TracedEngine  # torch.fx: a second to import

        shared = structure(self.recipes[0])
        return TracedEngine(
            self.packed, self._mean_loss, self.precision, task=self.task, structure=shared
        )

    def _table(
        self, policy: Callable[..., float], updates: range, base: Sequence[float] = ()
    ) -> list[Tensor]:
        """The policy's values at each of the updates, times each member's base: [k, 1] each."""
        rows = [
            [
                (base[k] if base else 1.0) * policy(u, self.total, **values)
                for k, values in enumerate(self._schedule.values)
            ]
            for u in updates
        ]
        if not rows:
            return []
        table = torch.tensor(rows, dtype=self.dtype, device=self.device)
        return list(table.unsqueeze(2).unbind(0))

    @torch.no_grad()
    def step(self) -> Tensor:
        """Make one update of every member; their training losses [k]."""
        update, w, t, layout = self.updates, self.packed.w, self._t, self.packed.layout
        i = update - self._first
        scheduled = {name: table[i] for name, table in self._scheduled.items()}
        factor = {"factor": scheduled["factor"]}
        draws = self._draws.at(update)
        batch = self._feed.batch(update)
        for s in self._batches:
            batch = cast(BatchMethod, s.method).apply(batch, draws, s.hyper)
        t += 1

        def closure(statistics: bool = True) -> tuple[Tensor, Tensor]:
            return self._forward_backward(batch, statistics)

        s = self._gradient
        loss, g = cast(Gradient, s.method).compute(closure, w, s.state, s.hyper | factor, t)
        for s in self._transforms:
            apply = cast(Transform, s.method).apply
            apply(g, w, s.state, s.hyper | factor, t, layout, draws)
        s = self._optimizer
        cast(Optimizer, s.method).step(w, g, s.state, s.hyper | scheduled, t, layout)
        for s in self._averaging:
            cast(Averaging, s.method).update(w, s.state, s.hyper, t, self._horizon)
        self.updates += 1
        self.losses += loss
        self.counted += 1
        return loss

    def _forward_backward(self, batch: Batch, statistics: bool) -> tuple[Tensor, Tensor]:
        buffers = self.packed.buffers
        before = [] if statistics else [b.clone() for b in buffers]
        # What the user's modules draw (dropout) too belongs to the trial and the step.
        keys = [mix(seed, self.updates) for seed in self._forward_seeds]
        loss, g = self._engine(batch, self._loss_hyper, keys)
        for buffer, value in zip(buffers if before else (), before, strict=True):
            buffer.copy_(value)
        return loss, g

    def _mean_loss(
        self,
        output: Tensor,
        y: Tensor,
        y2: Tensor | None,
        weight: Tensor | None,
        hyper: Hyper,
    ) -> Tensor:
        """Loss of one member on its batch, 0-dim."""
        if self._half:
            output = output.float()
        if not self._checked:
            self._check_output(output, y)
        value = self._sample_loss(output, y, hyper)
        if y2 is not None and weight is not None:
            # A user's loss may be a mean already: then the batch's mean weight serves.
            weight = weight if value.ndim else weight.mean()
            value = weight * value + (1 - weight) * self._sample_loss(output, y2, hyper)
        return value.mean()

    def _sample_loss(self, output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
        """Loss [b] of one member; a loss of the user's own may be its mean."""
        if self.task.loss is not None:
            return self.task.loss(output, target, {})
        return cast(Loss, self._losses[0].method).value(output, target, hyper)

    def judged_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss [b] that evaluations tell: the same for all recipes of a task, so that they compare.

        Cross-entropy without smoothing, squared error, or the user's own loss.
        """
        if self.task.loss is not None:
            return self.task.loss(output, target, {})
        method = family("loss").get(_LOSSES[self.task.shape.target])
        assert isinstance(method, Loss)
        zero = output.new_zeros(())
        return method.value(output, target, dict.fromkeys(method.ranges, zero))

    def precision(self) -> AbstractContextManager[object]:
        """bfloat16 autocast where the recipe trains in it."""
        if not self._half:
            return _EXACT
        return torch.autocast(self.device.type, torch.bfloat16)

    def _check_output(self, output: object, target: Tensor) -> None:
        """Refuse an output that no loss of ours can take, in words, at the first step.

        Raises:
            TaskError: the model returns no tensor, or one of another shape.
        """
        self._checked = True
        if not isinstance(output, Tensor):
            raise TaskError(f"the model returns a {type(output).__name__}, not a tensor")
        if self.task.loss is not None:
            return
        rows = target.shape[:2] if self.task.shape.target == "tokens" else target.shape[:1]
        wanted = (*rows, self.task.shape.outputs)
        if tuple(output.shape) != wanted:
            raise TaskError(
                f"the model returns {list(output.shape)} for {len(target)} samples; "
                f"this data needs {list(wanted)}"
            )

    # What to evaluate, to keep, and to go on from -------------------------------------------

    def lr(self) -> list[float]:
        """Learning rate of the last update, each member; nan where the optimizer has none."""
        if "lr" not in self._optimizer.hyper:
            return [math.nan] * len(self.recipes)
        factor, at = _method(self._schedule, Schedule).factor, max(self.updates - 1, 0)
        return [
            float(cast(float, v["lr"])) * factor(at, self.total, **s)
            for v, s in zip(self._optimizer.values, self._schedule.values, strict=True)
        ]

    @torch.no_grad()
    def evaluated(self) -> Tensor:
        """Weights [k, p] to evaluate and keep; `packed.w` itself where no average is taken."""
        w, s = self.packed.w, self._optimizer
        for a in self._averaging:
            return cast(Averaging, a.method).evaluated(w, a.state, a.hyper)
        evaluated = cast(Optimizer, s.method).evaluated
        return w if evaluated is None else evaluated(w, s.state, s.hyper)

    def state(self, k: int) -> dict[str, Tensor]:
        """All that member k needs to go on bit for bit, by name, copied."""
        tensors = {"weights": self.packed.w[k], "losses": self.losses[k]}
        for name, buffer in self.packed.member_buffers(k).items():
            tensors[f"buffer.{name}"] = buffer
        for s in self._stateful():
            for name, value in s.state.items():
                tensors[f"{s.key}.{name}"] = value[k]
        return {name: x.detach().clone() for name, x in tensors.items()}

    def load(self, k: int, tensors: Mapping[str, Tensor], *, updates: int, counted: int) -> None:
        """Set member k to what `state` gave after `updates` updates.

        Raises:
            RecipeError: the checkpoint is of another architecture or of other methods.
        """
        own = {"weights": self.packed.w[k], "losses": self.losses[k]}
        for name, buffer in self.packed.member_buffers(k).items():
            own[f"buffer.{name}"] = buffer
        for s in self._stateful():
            own |= {f"{s.key}.{name}": value[k] for name, value in s.state.items()}
        for name, x in own.items():
            if name not in tensors or tensors[name].shape != x.shape:
                raise RecipeError(f"the checkpoint to go on from has another '{name}'")
            x.copy_(tensors[name])
        self.updates, self.counted = updates, counted
        self._t.fill_(updates)

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only."""
        rows = list(members)
        self.recipes = [self.recipes[k] for k in rows]
        self.packed.keep(rows)
        self._t, self._horizon, self.losses = self._t[rows], self._horizon[rows], self.losses[rows]
        for s in (*self._batches, *self._losses, self._schedule, *self._stateful()):
            s.values = [s.values[k] for k in rows]
            s.hyper = {n: h[rows] for n, h in s.hyper.items()}
            s.state = {n: x[rows] for n, x in s.state.items()}
        self._seat()

    def _stateful(self) -> list[Stage]:
        return [self._gradient, *self._transforms, self._optimizer, *self._averaging]


_EXACT: AbstractContextManager[object] = nullcontext()


def _method(stage: Stage, kind: type[M]) -> M:
    assert isinstance(stage.method, kind)
    return stage.method
