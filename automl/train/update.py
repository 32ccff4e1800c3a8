"""One update of all members of a pack: every stage of their recipes, in order.

    batch -> model + loss -> gradient -> transform -> optimizer x schedule -> averaging

An engine makes forward and backward: member by member, each with its own module (the loop), or
all members as one traced program. Everything else acts on [k, ...] at once. What the host says of
an update comes through `inputs`, so that on a GPU the rest can be one CUDA graph.

Shapes: k members, p weights, b samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from automl.errors import RecipeError
from automl.methods.stages import (
    Averaging,
    Batch,
    BatchMethod,
    Gradient,
    Optimizer,
    Transform,
)
from automl.train.chain import BatchChain
from automl.train.data import Feed
from automl.train.inputs import Inputs
from automl.train.lanes import Lane, merged
from automl.train.looks import BatchLooks
from automl.train.loop_engine import LoopEngine, Pass
from automl.train.objective import Objective
from automl.train.seeding import KeyedDraws, mix
from automl.train.timetable import Timetable

if TYPE_CHECKING:
    from automl.train.graphed import Graphed
    from automl.train.step import Program
    from automl.train.traced_engine import TracedEngine


class Update:
    """Called with its program, it makes one update of the present members; their losses [k].

    A program whose members change gets another. It does not hold the program: the weights are gone
    when the program is.
    """

    def __init__(self, of: Program) -> None:
        seeds = [r.seed for r in of.recipes]
        self.inputs = Inputs()
        graphed = of.wanted == "graphed"
        self.draws = KeyedDraws(seeds, of.device, self.inputs if graphed else None)
        self._forward_seeds = [mix(seed, "forward") for seed in seeds]
        self.objective = Objective(
            of.task, of.pipeline.losses, of.packed.w, half=of.half, sizes=of.sizes
        )
        self.timetable = Timetable(of.pipeline.schedules, of.pipeline.optimizers, of.totals)
        self.engine: LoopEngine | TracedEngine
        if of.wanted != "loop" and len(seeds) > 1:
            self.engine = self._traced(of)
        else:
            self.engine = LoopEngine(of.packed, of.sizes)
        self.feed = Feed(
            of.task.train,
            seeds=seeds,
            sizes=of.sizes,
            device=of.device,
            dtype=of.dtype,
        )
        self.graphed = self._graph(of) if graphed else None

    def release(self) -> None:
        """Give back what a graph holds: the update is not called again."""
        if self.graphed is not None:
            self.graphed.release()

    @torch.no_grad()
    def __call__(self, of: Program) -> Tensor:
        self.draws.at(of.clock)
        self.timetable.turn(of.clock, of.packed.w)
        loss = self.make(of) if self.graphed is None else self.graphed()
        teacher = of.task.teacher
        if self.objective.taught is not None and teacher is not None:
            size = of.packed.layout.size
            of.look(range(len(of.clock)), (teacher.weights or size) / size / 3)
        return loss

    def _traced(self, of: Program) -> TracedEngine:
        from automl.train.traced_engine import TracedEngine  # torch.fx: a second to import

        structure = of.recipes[0].padded
        compiled = of.wanted == "compiled"
        return TracedEngine(
            of.packed, task=of.task, structure=structure, sizes=of.sizes, compile=compiled
        )

    def _graph(self, of: Program) -> Graphed:
        from automl.train.graphed import Graphed  # torch's dispatch modes: of GPUs and tests alone

        reason = ""
        if cast(Gradient, of.pipeline.gradient.method).chain:
            reason = "the gradient opens each network between its layers"
        if any(cast(Optimizer, lane.stages[0].method).looks for lane in of.pipeline.optimizers):
            reason = "an optimizer looks at each network's loss more than once"
        return Graphed(partial(self.make, of), self.inputs, of.held, of.device, reason)

    def make(self, of: Program) -> Tensor:
        """What the device does in an update; all that the host says comes through `inputs`."""
        given, w, t, layout = self.inputs, of.packed.w, of.t, of.packed.layout
        draws = self.draws
        batch = self.feed.batch(of.clock, partial(self.curriculum, of), given=given)
        batch = self._prepared(of, batch, draws)
        self.objective.learn(batch, of.precision)
        t += 1

        def closure(statistics: bool = True) -> tuple[Tensor, Tensor]:
            return self._forward_backward(of, batch, statistics)

        factor, rate = given(lambda: [self.timetable.factor(), self.timetable.rate()])
        s = of.pipeline.gradient
        hyper = s.hyper | {"factor": factor}
        gradient = cast(Gradient, s.method)
        chain = self._chain(of, batch) if gradient.chain else None
        more = [chain] if chain else []
        loss, g = gradient.compute(closure, w, s.state, hyper, t, *more)
        if chain:
            of.look(range(len(of.clock)), chain.passes)
        of.scales.enter(w, g)
        for lane in of.pipeline.transforms:
            own_g, own_w, own_t = lane.take(g), lane.take(w), lane.take(t)
            own_draws = draws.part(lane.rows)
            scheduled = {"factor": lane.take(factor), "lr": lane.take(rate)}
            for s in lane.stages:
                apply = cast(Transform, s.method).apply
                apply(own_g, own_w, s.state, s.hyper | scheduled, own_t, layout, own_draws)
            lane.put(g, own_g)
            lane.put(w, own_w)  # decay
        for i, lane in enumerate(of.pipeline.optimizers):
            (s,), own_w = lane.stages, lane.take(w)
            moved = given(partial(self.timetable.given, i))
            hyper = s.hyper | dict(zip(self.timetable.names(i), moved, strict=True))
            optimizer = cast(Optimizer, s.method)
            if optimizer.draw is not None:
                hyper |= optimizer.draw(layout, draws.part(lane.rows))
            looks = self._looks(of, lane, batch, draws) if optimizer.looks else None
            seen = [looks] if looks else []
            optimizer.step(own_w, lane.take(g), s.state, hyper, lane.take(t), layout, *seen)
            lane.put(w, own_w)
            if looks:
                of.look(lane.rows, looks.passes)
        of.scales.leave(w)
        for lane in of.pipeline.averaging:
            own_w, own_t, horizon = lane.take(w), lane.take(t), lane.take(of.horizon)
            (s,) = lane.stages
            average = cast(Averaging, s.method)
            average.update(own_w, s.state, s.hyper, own_t, horizon)
            if average.moves:
                lane.put(w, own_w)
        of.losses += loss
        return loss

    def _looks(self, of: Program, lane: Lane, batch: Batch, draws: KeyedDraws) -> BatchLooks:
        """More looks at the step's batch, for the lane's optimizer."""
        numbers = self.objective.numbers(partial(self._progress, of))
        hyper = {n: lane.take(h) for n, h in numbers.items()}
        hyper |= {n: lane.take_samples(x) for n, x in self.objective.of_samples().items()}
        keys = [mix(self._forward_seeds[r], of.clock[r]) for r in lane.rows]

        def loss(
            k: int, output: Tensor, y: Tensor, y2: Tensor | None, weight: Tensor | None
        ) -> Tensor:
            return self.objective.mean(output, y, y2, weight, {n: h[k] for n, h in hyper.items()})

        return BatchLooks(
            [of.packed.modules[r] for r in lane.rows],
            [of.packed.w[r] for r in lane.rows],
            of.packed.layout,
            lane.take_batch(batch),
            loss=loss,
            begin=lambda k: of.packed.begin_pass(lane.rows[k], keys[k]),
            precision=of.precision,
            draws=draws.part(lane.rows),
            scales=of.scales.of(lane),
        )

    def _chain(self, of: Program, batch: Batch) -> BatchChain:
        """The networks opened between their layers, for a gradient that asks."""
        if of.accumulate > 1:
            raise RecipeError(f"accumulate {of.accumulate}: this gradient takes whole batches")
        hyper = self.objective.numbers(partial(self._progress, of)) | self.objective.of_samples()

        def loss(
            k: int, output: Tensor, y: Tensor, y2: Tensor | None, weight: Tensor | None
        ) -> Tensor:
            return self.objective.mean(output, y, y2, weight, {n: h[k] for n, h in hyper.items()})

        return BatchChain(
            of.packed.modules,
            of.packed.layout,
            batch,
            loss=loss,
            begin=lambda k, layer: of.packed.begin_pass(
                k, mix(self._forward_seeds[k], of.clock[k], layer)
            ),
            precision=of.precision,
        )

    def curriculum(self, of: Program, places: Tensor) -> Tensor:
        """The samples [k, b] that the members' curricula choose for the places drawn."""
        if not of.pipeline.batches:
            return places
        n, progress = len(of.task.train), self._progress(of)
        for lane in of.pipeline.batches:
            for s in lane.stages:
                method = cast(BatchMethod, s.method)
                if method.choose is None:
                    continue
                hyper = s.hyper | {"progress": lane.take(progress)}
                part = method.choose(lane.take_samples(places), n, hyper)
                if method.score is not None:
                    part = self.feed.ranked(method.score)[part]
                places = places.clone()
                lane.put_samples(places, part)
        return places

    def _prepared(self, of: Program, batch: Batch, draws: KeyedDraws) -> Batch:
        """The batch after each member's own augmentation and mixing."""
        if not of.pipeline.batches:
            return batch
        parts = []
        for lane in of.pipeline.batches:
            part, own = lane.take_batch(batch), draws.part(lane.rows)
            for s in lane.stages:
                part = cast(BatchMethod, s.method).apply(part, own, s.hyper)
            parts.append(part)
        return merged(of.pipeline.batches, batch, parts)

    def _forward_backward(
        self, of: Program, batch: Batch, statistics: bool
    ) -> tuple[Tensor, Tensor]:
        buffers = of.packed.buffers
        before = [] if statistics else [b.clone() for b in buffers]
        first, *rest = batch.parts(of.accumulate)
        # What the user's modules draw (dropout) too belongs to the trial and the step.
        keys: Callable[[], list[int]] = partial(self._forward_keys, of)
        goal = self.objective
        numbers, samples = goal.numbers(partial(self._progress, of)), goal.of_samples()
        split = {name: x.split(first.x.shape[1], dim=1) for name, x in samples.items()}
        samples = {name: parts[0] for name, parts in split.items()}
        loss, g = self.engine(
            Pass(first, numbers, samples, keys, goal.mean, of.precision, self.inputs)
        )
        if rest:
            share = first.x.shape[1] / batch.x.shape[1]
            loss, g = share * loss, share * g  # copies: the engine writes into its own again
        for i, part in enumerate(rest, start=1):
            keys = partial(self._forward_keys, of, i)
            samples = {name: parts[i] for name, parts in split.items()}
            own = Pass(part, numbers, samples, keys, goal.mean, of.precision, self.inputs)
            more, more_g = self.engine(own)
            share = part.x.shape[1] / batch.x.shape[1]
            loss.add_(more, alpha=share)
            g.add_(more_g, alpha=share)
        for buffer, value in zip(buffers if before else (), before, strict=True):
            buffer.copy_(value)
        return loss, g

    def _forward_keys(self, of: Program, *part: int) -> list[int]:
        pairs = zip(self._forward_seeds, of.clock, strict=True)
        return [mix(seed, update, *part) for seed, update in pairs]

    def _progress(self, of: Program) -> Tensor:
        """[k, 1]: the share of the training that is over, in [0, 1)."""

        def make() -> list[Tensor]:
            shares = [u / n for u, n in zip(of.clock, of.totals, strict=True)]
            return [of.horizon.new_tensor(shares).unsqueeze(1)]

        return self.inputs(make)[0]
