"""The training step: every stage of a recipe, in order, for all members of a pack.

    batch -> model + loss -> gradient -> transform -> optimizer x schedule -> averaging

An engine makes forward and backward: member by member, each with its own module (the loop), or
all members as one traced program. Everything else acts on [k, ...] at once. Members share their
structure: the task, the architecture, the batch size, the loss and how a gradient is obtained.
They may differ in numbers, seeds and all other methods (`lanes.py`). A parametrization gives the
weights their first size and stands between them and the optimizer (`scales.py`).

Shapes: k members, p weights, b samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import (
    Averaging,
    Batch,
    BatchMethod,
    Gradient,
    Loss,
    Optimizer,
    Transform,
)
from automl.recipe import Recipe
from automl.tasks.task import ModelTask
from automl.train.chain import BatchChain
from automl.train.data import Feed
from automl.train.inputs import Inputs
from automl.train.lanes import Lane, Stage, lanes_of, merged, stages_of
from automl.train.looks import BatchLooks
from automl.train.loop_engine import LoopEngine, Pass
from automl.train.objective import LOSSES, Objective
from automl.train.packed import Packed
from automl.train.scales import scales_of
from automl.train.seeding import KeyedDraws, mix, seed_torch
from automl.train.timetable import Timetable

if TYPE_CHECKING:
    from automl.train.graphed import Graphed
    from automl.train.traced_engine import TracedEngine

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
        self._wanted = engine
        self._graphed: Graphed | None = None
        self.device = torch.device(task.card.device)
        precision = str(recipes[0].point.get("precision", _default_precision(self.device)))
        if precision not in _PRECISIONS:
            raise RecipeError(f"precision '{precision}'; one of {', '.join(_PRECISIONS)}")
        self.dtype = _PRECISIONS[precision]
        self._half = precision == "bfloat16"
        self.batch_size = int(str(recipes[0].point.get("batch_size", task.card.batch_size)))
        self._accumulate = int(str(recipes[0].point.get("accumulate", 1)))
        if self._accumulate < 1:
            raise RecipeError(f"accumulate {self._accumulate}: a batch has at least one part")
        self._assemble(recipes, [self._built(recipe) for recipe in recipes])

    def _built(self, recipe: Recipe) -> nn.Module:
        seed_torch(mix(recipe.seed, "initial weights"), self.device)
        return self.task.build(recipe)

    def _assemble(self, recipes: Sequence[Recipe], modules: Sequence[nn.Module]) -> None:
        """Make the program of these members, each at the beginning of its training."""
        task, k = self.task, len(recipes)
        self.recipes = list(recipes)
        self.totals = [max(1, self.updates_at(r.steps)) for r in recipes]  # updates, each member
        self.clock = [0] * k  # updates made, each member: those that joined later are behind
        self.packed = Packed(modules, device=self.device, dtype=self.dtype)
        self._scales = scales_of(task, recipes, self.packed.layout, self.packed.w)
        self._batches = self._lanes("batch")
        self._losses = [] if task.loss else self._lanes("loss", LOSSES[task.shape.target])
        self._gradients = self._lanes("gradient", "plain")
        if len(self._losses) > 1 or len(self._gradients) > 1:
            raise RecipeError("members of a pack differ in their loss or their gradient")
        v = self._scales.inside(self.packed.w)  # their states hold weights as they see them
        self._transforms = self._lanes("transform", w=v)
        self._optimizers = self._lanes("optimizer", w=v)
        self._schedules = self._lanes("schedule", "constant")
        self._averaging = self._lanes("averaging")
        self._check_kinds()
        self._seat()
        self._t = torch.zeros(k, 1, dtype=self.dtype, device=self.device)
        self._horizon = self._t.new_tensor(self.totals).unsqueeze(1)
        # Sums of as many losses as `counted` says, each member.
        self.losses = torch.zeros(k, dtype=torch.float64, device=self.device)
        self.counted = [0] * k
        # Passes of looks and chains, in study steps; whoever counts them sets them to 0.
        self.looked = [0.0] * k

    @property
    def part_size(self) -> int:
        """Samples of one forward pass: a batch, or the larger parts that it is accumulated from."""
        return -(-self.batch_size // self._accumulate)

    @property
    def ungraphed(self) -> str:
        """Why updates are no CUDA graph, once one was tried; "" where it is, or none was wanted."""
        return self._graphed.reason if self._graphed is not None else ""

    @property
    def updates(self) -> int:
        """Updates that the first member has made; all of them, unless one has joined later."""
        return self.clock[0]

    @property
    def total(self) -> int:
        """Updates of the first member's whole training."""
        return self.totals[0]

    def passes(self, k: int) -> float:
        """Forward-backward passes of one update of member k, without what `looked` counts."""
        ((stage, _),) = stages_of(self._optimizers, k)
        gradient = cast(Gradient, self._gradients[0].stages[0].method)
        optimizer = cast(Optimizer, stage.method)
        if gradient.chain:
            return 0
        return gradient.passes * (1 if optimizer.looks else optimizer.passes)

    def updates_at(self, steps: int) -> int:
        """Optimizer updates made after `steps` study steps."""
        return round(steps * self.task.card.batch_size / self.batch_size)

    # Making ---------------------------------------------------------------------------------

    def _lanes(self, key: str, absent: str = "none", *, w: Tensor | None = None) -> list[Lane]:
        w = self.packed.w if w is None else w
        return lanes_of(key, self.recipes, w, self.packed.layout, absent)

    def _check_kinds(self) -> None:
        shape = self.task.shape
        for k, recipe in enumerate(self.recipes):
            for stage, _ in stages_of(self._batches, k):
                if shape.kind not in cast(BatchMethod, stage.method).kinds:
                    raise RecipeError(
                        f"batch '{recipe.point['batch']}' does not serve {shape.kind} data"
                    )
                chooses = cast(BatchMethod, stage.method).choose is not None
                if chooses and self.task.train.dataset is not None:
                    raise RecipeError(
                        f"batch '{recipe.point['batch']}' chooses among samples kept in memory; "
                        "this data is read sample by sample"
                    )
        for lane in self._losses:
            if shape.target not in cast(Loss, lane.stages[0].method).targets:
                name = self.recipes[0].point.get("loss")
                raise RecipeError(f"loss '{name}' does not serve a target of {shape.target}")

    def _seat(self) -> None:
        """All that depends on who the members are."""
        seeds = [r.seed for r in self.recipes]
        self._inputs = Inputs()
        graphed = self._wanted == "graphed"
        self._draws = KeyedDraws(seeds, self.device, self._inputs if graphed else None)
        self._forward_seeds = [mix(seed, "forward") for seed in seeds]
        self._objective = Objective(self.task, self._losses, self.packed.w, half=self._half)
        self._timetable = Timetable(self._schedules, self._optimizers, self.totals)
        self._engine: LoopEngine | TracedEngine
        if self._wanted != "loop" and len(seeds) > 1:
            self._engine = self._traced_engine()
        else:
            self._engine = LoopEngine(self.packed)
        self._feed = Feed(
            self.task.train,
            seeds=seeds,
            batch_size=self.batch_size,
            device=self.device,
            dtype=self.dtype,
        )
        if self._graphed is not None:
            self._graphed.release()
        self._graphed = self._graph() if graphed else None

    # One update -----------------------------------------------------------------------------

    def begin(self, until: int) -> None:
        """Prepare for the updates up to the first member's `until`: the data's readers."""
        count = max(0, until - self.clock[0])
        self._feed.begin([range(u, u + count) for u in self.clock])
        self._timetable.forget()

    def _traced_engine(self) -> TracedEngine:
        from automl.train.traced_engine import TracedEngine  # torch.fx: a second to import

        structure = self.recipes[0].structure
        compiled = self._wanted == "compiled"
        return TracedEngine(self.packed, task=self.task, structure=structure, compile=compiled)

    def _graph(self) -> Graphed:
        from automl.train.graphed import Graphed  # torch's dispatch modes: of GPUs and tests alone

        reason = ""
        if cast(Gradient, self._gradients[0].stages[0].method).chain:
            reason = "the gradient opens each network between its layers"
        if any(cast(Optimizer, lane.stages[0].method).looks for lane in self._optimizers):
            reason = "an optimizer looks at each network's loss more than once"
        return Graphed(self._update, self._inputs, self._held, self.device, reason)

    def _held(self) -> list[Tensor]:
        """All that an update changes."""
        lanes = (self._gradients, self._transforms, self._optimizers, self._averaging)
        states = [s.state for each in lanes for lane in each for s in lane.stages]
        return [
            self.packed.w, self.packed.g, *self.packed.stacked.values(), self._t, self.losses,
            *(x for state in states for x in state.values()),
        ]  # fmt: skip

    @torch.no_grad()
    def step(self) -> Tensor:
        """Make one update of every member; their training losses [k]."""
        self._draws.at(self.clock)
        self._timetable.turn(self.clock, self.packed.w)
        loss = self._update() if self._graphed is None else self._graphed()
        for k in range(len(self.clock)):
            self.clock[k] += 1
            self.counted[k] += 1
        teacher = self.task.teacher
        if self._objective.taught is not None and teacher is not None:
            size = self.packed.layout.size
            self._look(range(len(self.looked)), (teacher.weights or size) / size / 3)
        return loss

    def _look(self, members: Sequence[int], passes: float) -> None:
        """Count passes that an update makes beyond its own."""
        for k in members:
            self.looked[k] += passes * (self.batch_size / self.task.card.batch_size)

    def _update(self) -> Tensor:
        """What the device does in an update; all that the host says comes through `_inputs`."""
        given, w, t, layout = self._inputs, self.packed.w, self._t, self.packed.layout
        draws = self._draws
        batch = self._feed.batch(self.clock, self._curriculum, given=given)
        batch = self._prepared(batch, draws)
        self._objective.learn(batch, self.precision)
        t += 1

        def closure(statistics: bool = True) -> tuple[Tensor, Tensor]:
            return self._forward_backward(batch, statistics)

        factor, rate = given(lambda: [self._timetable.factor(), self._timetable.rate()])
        (s,) = self._gradients[0].stages
        hyper = s.hyper | {"factor": factor}
        gradient = cast(Gradient, s.method)
        chain = self._chain(batch) if gradient.chain else None
        more = [chain] if chain else []
        loss, g = gradient.compute(closure, w, s.state, hyper, t, *more)
        if chain:
            self._look(range(len(self.looked)), chain.passes)
        self._scales.enter(w, g)
        for lane in self._transforms:
            own_g, own_w, own_t = lane.take(g), lane.take(w), lane.take(t)
            own_draws = draws.part(lane.rows)
            scheduled = {"factor": lane.take(factor), "lr": lane.take(rate)}
            for s in lane.stages:
                apply = cast(Transform, s.method).apply
                apply(own_g, own_w, s.state, s.hyper | scheduled, own_t, layout, own_draws)
            lane.put(g, own_g)
            lane.put(w, own_w)  # decay
        for i, lane in enumerate(self._optimizers):
            (s,), own_w = lane.stages, lane.take(w)
            moved = given(partial(self._timetable.given, i))
            hyper = s.hyper | dict(zip(self._timetable.names(i), moved, strict=True))
            optimizer = cast(Optimizer, s.method)
            if optimizer.draw is not None:
                hyper |= optimizer.draw(layout, draws.part(lane.rows))
            looks = self._looks(lane, batch, draws) if optimizer.looks else None
            seen = [looks] if looks else []
            optimizer.step(own_w, lane.take(g), s.state, hyper, lane.take(t), layout, *seen)
            lane.put(w, own_w)
            if looks:
                self._look(lane.rows, looks.passes)
        self._scales.leave(w)
        for lane in self._averaging:
            own_w, own_t, horizon = lane.take(w), lane.take(t), lane.take(self._horizon)
            for s in lane.stages:
                cast(Averaging, s.method).update(own_w, s.state, s.hyper, own_t, horizon)
            lane.put(w, own_w)  # lookahead
        self.losses += loss
        return loss

    def _looks(self, lane: Lane, batch: Batch, draws: KeyedDraws) -> BatchLooks:
        """More looks at the step's batch, for the lane's optimizer."""
        hyper = {n: lane.take(h) for n, h in self._objective.numbers(self._progress).items()}
        keys = [mix(self._forward_seeds[r], self.clock[r]) for r in lane.rows]

        def loss(
            k: int, output: Tensor, y: Tensor, y2: Tensor | None, weight: Tensor | None
        ) -> Tensor:
            return self._objective.mean(output, y, y2, weight, {n: h[k] for n, h in hyper.items()})

        return BatchLooks(
            [self.packed.modules[r] for r in lane.rows],
            [self.packed.w[r] for r in lane.rows],
            self.packed.layout,
            lane.take_batch(batch),
            loss=loss,
            begin=lambda k: self.packed.begin_pass(lane.rows[k], keys[k]),
            precision=self.precision,
            draws=draws.part(lane.rows),
            scales=self._scales.of(lane),
        )

    def _chain(self, batch: Batch) -> BatchChain:
        """The networks opened between their layers, for a gradient that asks."""
        if self._accumulate > 1:
            raise RecipeError(f"accumulate {self._accumulate}: this gradient takes whole batches")
        hyper = self._objective.numbers(self._progress)

        def loss(
            k: int, output: Tensor, y: Tensor, y2: Tensor | None, weight: Tensor | None
        ) -> Tensor:
            return self._objective.mean(output, y, y2, weight, {n: h[k] for n, h in hyper.items()})

        return BatchChain(
            self.packed.modules,
            self.packed.layout,
            batch,
            loss=loss,
            begin=lambda k, layer: self.packed.begin_pass(
                k, mix(self._forward_seeds[k], self.clock[k], layer)
            ),
            precision=self.precision,
        )

    def _curriculum(self, places: Tensor) -> Tensor:
        """The samples [k, b] that the members' curricula choose for the places drawn."""
        if not self._batches:
            return places
        n, progress = len(self.task.train), self._progress()
        for lane in self._batches:
            for s in lane.stages:
                method = cast(BatchMethod, s.method)
                if method.choose is None:
                    continue
                hyper = s.hyper | {"progress": lane.take(progress)}
                part = method.choose(lane.take(places), n, hyper)
                if method.score is not None:
                    part = self._feed.ranked(method.score)[part]
                places = places.index_copy(0, lane.at(part), part)
        return places

    def _prepared(self, batch: Batch, draws: KeyedDraws) -> Batch:
        """The batch after each member's own augmentation and mixing."""
        if not self._batches:
            return batch
        parts = []
        for lane in self._batches:
            part, own = lane.take_batch(batch), draws.part(lane.rows)
            for s in lane.stages:
                part = cast(BatchMethod, s.method).apply(part, own, s.hyper)
            parts.append(part)
        return merged(self._batches, batch, parts)

    def _forward_backward(self, batch: Batch, statistics: bool) -> tuple[Tensor, Tensor]:
        buffers = self.packed.buffers
        before = [] if statistics else [b.clone() for b in buffers]
        first, *rest = batch.parts(self._accumulate)
        # What the user's modules draw (dropout) too belongs to the trial and the step.
        keys: Callable[[], list[int]] = self._forward_keys
        goal = self._objective
        lessons = [None] if goal.taught is None else goal.taught.split(first.x.shape[1], dim=1)
        loss, g = self._engine(
            Pass(
                first,
                goal.numbers(self._progress, lessons[0]),
                keys,
                goal.mean,
                self.precision,
                self._inputs,
            )
        )
        if rest:
            share = first.x.shape[1] / batch.x.shape[1]
            loss, g = share * loss, share * g  # copies: the engine writes into its own again
        for i, part in enumerate(rest, start=1):
            keys = partial(self._forward_keys, i)
            numbers = goal.numbers(self._progress, lessons[min(i, len(lessons) - 1)])
            own = Pass(part, numbers, keys, goal.mean, self.precision, self._inputs)
            more, more_g = self._engine(own)
            share = part.x.shape[1] / batch.x.shape[1]
            loss.add_(more, alpha=share)
            g.add_(more_g, alpha=share)
        for buffer, value in zip(buffers if before else (), before, strict=True):
            buffer.copy_(value)
        return loss, g

    def _forward_keys(self, *part: int) -> list[int]:
        pairs = zip(self._forward_seeds, self.clock, strict=True)
        return [mix(seed, update, *part) for seed, update in pairs]

    def _progress(self) -> Tensor:
        """[k, 1]: the share of the training that is over, in [0, 1)."""

        def make() -> list[Tensor]:
            shares = [u / n for u, n in zip(self.clock, self.totals, strict=True)]
            return [self._horizon.new_tensor(shares).unsqueeze(1)]

        return self._inputs(make)[0]

    def judged_losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean losses [m] that evaluations tell, of m members' outputs [m, b, ...]."""
        return self._objective.judged(outputs, target)

    def precision(self) -> AbstractContextManager[object]:
        """bfloat16 autocast where the recipe trains in it."""
        if not self._half:
            return _EXACT
        return torch.autocast(self.device.type, torch.bfloat16)

    # What to evaluate, to keep, and to go on from -------------------------------------------

    def lr(self) -> list[float]:
        """Learning rate of the last update, each member; nan where the optimizer has none."""
        return [self._timetable.lr(k, max(u - 1, 0)) for k, u in enumerate(self.clock)]

    @torch.no_grad()
    def evaluated(self) -> Tensor:
        """Weights [k, p] to evaluate and keep; `packed.w` itself where no average is taken."""
        found = w = self.packed.w
        averaging = {k for lane in self._averaging for k in lane.rows}
        for lane in self._optimizers:
            (s,) = lane.stages
            evaluated = cast(Optimizer, s.method).evaluated
            if evaluated is not None and not averaging.issuperset(lane.rows):
                kept = evaluated(lane.take(self._scales.inside(w)), s.state, s.hyper)
                found = _written(found, w, lane, self._scales.outside(kept, lane))
        for lane in self._averaging:
            s = lane.stages[0]
            average = cast(Averaging, s.method).evaluated(lane.take(w), s.state, s.hyper)
            found = _written(found, w, lane, average)
        return found

    def samples(self, k: int) -> Tensor | None:
        """Weights [m, p] of the networks whose average prediction member k is judged by.

        None where it is one network: nearly always.
        """
        if any(k in lane.rows for lane in self._averaging):
            return None
        for lane in self._optimizers:
            (s,) = lane.stages
            samples = cast(Optimizer, s.method).samples
            if k in lane.rows and samples is not None:
                inside = lane.take(self._scales.inside(self.packed.w))
                each = samples(inside, s.state, s.hyper).unbind(1)
                return torch.stack(
                    [self._scales.outside(x, lane)[lane.rows.index(k)] for x in each]
                )
        return None

    def state(self, k: int) -> dict[str, Tensor]:
        """All that member k needs to go on bit for bit, by name, copied."""
        tensors = {"weights": self.packed.w[k], "losses": self.losses[k]}
        for name, buffer in self.packed.member_buffers(k).items():
            tensors[f"buffer.{name}"] = buffer
        for s, place in self._stateful(k):
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
        for s, place in self._stateful(k):
            own |= {f"{s.key}.{name}": value[place] for name, value in s.state.items()}
        for name, x in own.items():
            if name not in tensors or tensors[name].shape != x.shape:
                raise RecipeError(f"the checkpoint to go on from has another '{name}'")
            x.copy_(tensors[name])
        self.clock[k], self.counted[k] = updates, counted
        self._t[k] = updates

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only."""
        rows = list(members)
        self.recipes = [self.recipes[k] for k in rows]
        self.totals = [self.totals[k] for k in rows]
        self.clock = [self.clock[k] for k in rows]
        self.counted = [self.counted[k] for k in rows]
        self.packed.keep(rows)
        self._scales = self._scales.keep(rows)
        self._t, self._horizon, self.losses = self._t[rows], self._horizon[rows], self.losses[rows]
        self.looked = [self.looked[k] for k in rows]
        for lanes in self._all_lanes():
            lanes[:] = [kept for lane in lanes if (kept := lane.keep(rows)) is not None]
        self._seat()

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
        self._assemble([recipes.get(k, r) for k, r in enumerate(self.recipes)], modules)
        for k, model in models.items():
            self.packed.modules[k].load_state_dict(model)
        for k, (state, updates, counted) in kept.items():
            self.load(k, state, updates=updates, counted=counted)
            self.looked[k] = looked[k]

    def _all_lanes(self) -> list[list[Lane]]:
        return [
            self._batches, self._losses, self._gradients, self._transforms, self._optimizers,
            self._schedules, self._averaging,
        ]  # fmt: skip

    def _stateful(self, k: int) -> Iterator[tuple[Stage, int]]:
        for lanes in (self._gradients, self._transforms, self._optimizers, self._averaging):
            yield from stages_of(lanes, k)


def _written(found: Tensor, w: Tensor, lane: Lane, part: Tensor) -> Tensor:
    """`found` with the lane's rows in place; a copy first where it is still w itself."""
    if len(lane.rows) == lane.size:
        return part
    found = found.clone() if found is w else found
    found[lane.rows] = part
    return found


_EXACT: AbstractContextManager[object] = nullcontext()
