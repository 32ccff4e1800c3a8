"""A pack in training: its members, where each stands, and all that a checkpoint must hold.

`pipeline.py` says which methods they chose, `update.py` makes an update of them. Members share
their structure: the task, the architecture, the loss and how a gradient is obtained. They may
differ in numbers, seeds and all other methods (`lanes.py`), and in their batch sizes where the
samples of a batch do not see each other: all batches are then as large as the largest, and what
fills up a smaller one counts for nothing. A parametrization gives the weights their first size and
stands between them and the optimizer (`scales.py`).

Shapes: k members, p weights, b samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl.errors import RecipeError
from automl.methods.stages import Gradient, Loss
from automl.recipe import Recipe
from automl.tasks.task import ModelTask
from automl.train.packed import Packed
from automl.train.pipeline import Pipeline
from automl.train.scales import scales_of
from automl.train.seeding import mix, seed_torch
from automl.train.update import Update

EngineName = Literal["loop", "traced", "compiled", "graphed"]


def engine_on(device: str, wanted: str = "traced") -> EngineName:
    """What makes the updates of a pack: on a GPU graphs, unless it is to be compiled."""
    if wanted == "compiled":
        return "compiled"
    return "graphed" if torch.device(device).type == "cuda" else "traced"


_PRECISIONS = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}


def _default_precision(device: torch.device) -> str:
    """bfloat16 where the device itself computes in it: a GPU of 2020 or later."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    return "float32"


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
        self.wanted = engine
        self.device = torch.device(task.card.device)
        precision = str(recipes[0].point.get("precision", _default_precision(self.device)))
        if precision not in _PRECISIONS:
            raise RecipeError(f"precision '{precision}'; one of {', '.join(_PRECISIONS)}")
        self.dtype = _PRECISIONS[precision]
        self.half = precision == "bfloat16"
        self.accumulate = int(str(recipes[0].point.get("accumulate", 1)))
        if self.accumulate < 1:
            raise RecipeError(f"accumulate {self.accumulate}: a batch has at least one part")
        self._assemble(recipes, [self._built(recipe) for recipe in recipes])

    def _built(self, recipe: Recipe) -> nn.Module:
        seed_torch(mix(recipe.seed, "initial weights"), self.device)
        return self.task.build(recipe)

    def _assemble(self, recipes: Sequence[Recipe], modules: Sequence[nn.Module]) -> None:
        """Make the program of these members, each at the beginning of its training."""
        task, k = self.task, len(recipes)
        self.recipes = list(recipes)
        # Samples of each member's batch.
        self.sizes = [int(str(r.point.get("batch_size", task.card.batch_size))) for r in recipes]
        # Updates of each member's whole training.
        self.totals = [max(1, self.updates_at(r.steps, i)) for i, r in enumerate(recipes)]
        self.clock = [0] * k  # updates made, each member: those that joined later are behind
        self.packed = Packed(modules, device=self.device, dtype=self.dtype)
        layout = self.packed.layout
        self.scales = scales_of(task, recipes, layout, self.packed.w)
        self.pipeline = Pipeline(task, recipes, self.packed.w, layout, self.scales, self.sizes)
        if len(set(self.sizes)) > 1:
            self._check_padding()
        self.update = Update(self)
        self.t = torch.zeros(k, 1, dtype=self.dtype, device=self.device)
        self.horizon = self.t.new_tensor(self.totals).unsqueeze(1)
        # Sums of as many losses as `counted` says, each member.
        self.losses = torch.zeros(k, dtype=torch.float64, device=self.device)
        self.counted = [0] * k
        # Passes of looks and chains, in study steps; whoever counts them sets them to 0.
        self.looked = [0.0] * k

    def _check_padding(self) -> None:
        """Refuse batches of several sizes where what fills up a batch would be seen."""
        task, pipeline = self.task, self.pipeline
        reasons = {
            "batch norm": any(isinstance(m, _BatchNorm) for m in self.packed.modules[0].modules()),
            "accumulate": self.accumulate > 1,
            "a loss of the task's own": task.loss is not None,
            "a loss that weighs samples by each other": any(
                cast(Loss, lane.stages[0].method).weigh is not None for lane in pipeline.losses
            ),
            "a gradient of whole batches": cast(Gradient, pipeline.gradient.method).chain,
            "data that is read sample by sample": task.train.dataset is not None,
        }
        found = [reason for reason, there in reasons.items() if there]
        if found:
            raise RecipeError(f"members of a pack differ in their batch size, with {found[0]}")

    def part_size(self, k: int) -> int:
        """Samples of a forward pass: member k's batch, or its larger parts where it has several."""
        return -(-self.sizes[k] // self.accumulate)

    @property
    def ungraphed(self) -> str:
        """Why updates are no CUDA graph, once one was tried; "" where it is, or none was wanted."""
        return self.update.graphed.reason if self.update.graphed is not None else ""

    @property
    def updates(self) -> int:
        """Updates that the first member has made; all of them, unless one has joined later."""
        return self.clock[0]

    @property
    def total(self) -> int:
        """Updates of the first member's whole training."""
        return self.totals[0]

    def updates_at(self, steps: int, k: int = 0) -> int:
        """Optimizer updates that member k has made after `steps` study steps."""
        return round(steps * self.task.card.batch_size / self.sizes[k])

    # One update -----------------------------------------------------------------------------

    def begin(self, until: int) -> None:
        """Prepare for the updates up to the first member's `until`: the data's readers."""
        count = max(0, until - self.clock[0])
        self.update.feed.begin([range(u, u + count) for u in self.clock])
        self.update.timetable.forget()

    def step(self) -> Tensor:
        """Make one update of every member; their training losses [k]."""
        loss = self.update(self)
        for k in range(len(self.clock)):
            self.clock[k] += 1
            self.counted[k] += 1
        return loss

    def held(self) -> list[Tensor]:
        """All that an update changes."""
        return [
            self.packed.w, self.packed.g, *self.packed.stacked.values(), self.t, self.losses,
            *self.pipeline.states(),
        ]  # fmt: skip

    def look(self, members: Sequence[int], passes: float) -> None:
        """Count passes that an update makes beyond its own."""
        for k in members:
            self.looked[k] += passes * (self.sizes[k] / self.task.card.batch_size)

    def precision(self) -> AbstractContextManager[object]:
        """bfloat16 autocast where the recipe trains in it."""
        if not self.half:
            return _EXACT
        return torch.autocast(self.device.type, torch.bfloat16)

    # What to evaluate, to keep, and to go on from -------------------------------------------

    def lr(self) -> list[float]:
        """Learning rate of the last update, each member; nan where the optimizer has none."""
        timetable = self.update.timetable
        return [timetable.lr(k, max(u - 1, 0)) for k, u in enumerate(self.clock)]

    @torch.no_grad()
    def evaluated(self) -> Tensor:
        """Weights [k, p] to evaluate and keep; `packed.w` itself where no average is taken."""
        return self.pipeline.evaluated(self.packed.w, self.scales)

    def samples(self, k: int) -> Tensor | None:
        """Weights [m, p] of the networks whose average prediction member k is judged by, if any."""
        return self.pipeline.samples(k, self.packed.w, self.scales)

    def state(self, k: int) -> dict[str, Tensor]:
        """All that member k needs to go on bit for bit, by name, copied."""
        tensors = {"weights": self.packed.w[k], "losses": self.losses[k]}
        for name, buffer in self.packed.member_buffers(k).items():
            tensors[f"buffer.{name}"] = buffer
        for s, place in self.pipeline.stateful(k):
            for name, value in s.state.items():
                tensors[f"{s.key}.{name}"] = value[place]
        return {name: x.detach().clone() for name, x in tensors.items()}

    def load(self, k: int, tensors: Mapping[str, Tensor], *, updates: int, counted: int) -> None:
        """Set member k to what `state` gave after `updates` updates.

        Raises:
            RecipeError: the checkpoint is of another architecture or of other methods.
        """
        own = {"weights": self.packed.w[k], "losses": self.losses[k]}
        for name, buffer in self.packed.member_buffers(k).items():
            own[f"buffer.{name}"] = buffer
        for s, place in self.pipeline.stateful(k):
            own |= {f"{s.key}.{name}": value[place] for name, value in s.state.items()}
        for name, x in own.items():
            if name not in tensors or tensors[name].shape != x.shape:
                raise RecipeError(f"the checkpoint to go on from has another '{name}'")
            x.copy_(tensors[name])
        self.clock[k], self.counted[k] = updates, counted
        self.t[k] = updates

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only."""
        rows = list(members)
        self.recipes = [self.recipes[k] for k in rows]
        self.sizes = [self.sizes[k] for k in rows]
        self.totals = [self.totals[k] for k in rows]
        self.clock = [self.clock[k] for k in rows]
        self.counted = [self.counted[k] for k in rows]
        self.packed.keep(rows)
        self.scales = self.scales.keep(rows)
        self.t, self.horizon, self.losses = self.t[rows], self.horizon[rows], self.losses[rows]
        self.looked = [self.looked[k] for k in rows]
        self.pipeline.keep(rows)
        self.update.release()
        self.update = Update(self)

    def seat(self, newcomers: Mapping[int, Recipe]) -> None:
        """Give slots to other trials, each at the beginning of its training.

        What the other members hold stays as it is, bit for bit: they go on from what they would
        go on from in another process.

        Raises:
            RecipeError, MethodError: as for the program itself; then it must not be used again.
        """
        self._remake(newcomers, [k for k in range(len(self.recipes)) if k not in newcomers])

    def turn(self, changed: Mapping[int, Recipe]) -> None:
        """Let members go on under other numbers, with all that they hold."""
        models = {k: self.packed.state(k) for k in changed}
        self._remake(changed, range(len(self.recipes)), models)

    def _remake(
        self,
        recipes: Mapping[int, Recipe],
        staying: Sequence[int],
        models: Mapping[int, Mapping[str, Tensor]] = MappingProxyType({}),
    ) -> None:
        """Make the program anew: some with other recipes, and those that stay with what they hold.

        models: state dicts of models that are built anew, for what is not trained in them.
        """
        kept = {k: (self.state(k), self.clock[k], self.counted[k]) for k in staying}
        looked = self.looked
        modules = [
            self._built(recipes[k]) if k in recipes else module
            for k, module in enumerate(self.packed.modules)
        ]
        self.update.release()
        self._assemble([recipes.get(k, r) for k, r in enumerate(self.recipes)], modules)
        for k, model in models.items():
            self.packed.modules[k].load_state_dict(model)
        for k, (state, updates, counted) in kept.items():
            self.load(k, state, updates=updates, counted=counted)
            self.looked[k] = looked[k]


_EXACT: AbstractContextManager[object] = nullcontext()
