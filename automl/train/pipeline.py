"""The stages of a training step, and who among the members of a pack chose which method at each.

    batch -> model + loss -> gradient -> transform -> optimizer x schedule -> averaging

Each stage is a list of lanes (`lanes.py`). Members of a pack share their loss and their gradient.

Shapes: k members, p weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from automl.errors import RecipeError
from automl.methods.stages import Averaging, BatchMethod, Gradient, Layout, Loss, Optimizer
from automl.recipe import Recipe
from automl.tasks.task import ModelTask
from automl.train.lanes import Lane, Stage, lanes_of, stages_of
from automl.train.objective import LOSSES
from automl.train.scales import Scales


class Pipeline:
    """The lanes of all stages, with what their methods remember.

    Args:
        w: the members' first weights [k, p].
        sizes: samples of each one's batch.

    Raises:
        RecipeError: the members differ in structure, or a method does not serve this task.
        MethodError: a recipe names a method that does not exist.
    """

    def __init__(
        self,
        task: ModelTask,
        recipes: Sequence[Recipe],
        w: Tensor,
        layout: Layout,
        scales: Scales,
        sizes: Sequence[int],
    ) -> None:
        def lanes(key: str, absent: str = "none", w: Tensor = w) -> list[Lane]:
            return lanes_of(key, recipes, w, layout, absent, sizes)

        self.batches = lanes("batch")
        self.losses = [] if task.loss else lanes("loss", LOSSES[task.shape.target])
        self.gradients = lanes("gradient", "plain")
        if len(self.losses) > 1 or len(self.gradients) > 1:
            raise RecipeError("members of a pack differ in their loss or their gradient")
        v = scales.inside(w)  # their states hold weights as they see them
        self.transforms = lanes("transform", w=v)
        self.optimizers = lanes("optimizer", w=v)
        self.schedules = lanes("schedule", "constant")
        self.averaging = lanes("averaging")
        self._check(task, recipes)

    @property
    def gradient(self) -> Stage:
        """How all members get their gradient."""
        (stage,) = self.gradients[0].stages
        return stage

    def passes(self, k: int) -> float:
        """Forward-backward passes of one update of member k, without looks and chains."""
        ((stage, _),) = stages_of(self.optimizers, k)
        gradient = cast(Gradient, self.gradient.method)
        optimizer = cast(Optimizer, stage.method)
        if gradient.chain:
            return 0
        return gradient.passes * (1 if optimizer.looks else optimizer.passes)

    def stateful(self, k: int) -> Iterator[tuple[Stage, int]]:
        """The stages of member k that remember, each with its place there."""
        for lanes in self._remembering():
            yield from stages_of(lanes, k)

    def states(self) -> list[Tensor]:
        """All that the stages remember."""
        stages = (s for lanes in self._remembering() for lane in lanes for s in lane.stages)
        return [x for s in stages for x in s.state.values()]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these members only."""
        for lanes in self.every():
            lanes[:] = [kept for lane in lanes if (kept := lane.keep(rows)) is not None]

    @torch.no_grad()
    def evaluated(self, w: Tensor, scales: Scales) -> Tensor:
        """Weights [k, p] to evaluate and keep; `w` itself where no average is taken."""
        found = w
        averaging = {k for lane in self.averaging for k in lane.rows}
        for lane in self.optimizers:
            (s,) = lane.stages
            evaluated = cast(Optimizer, s.method).evaluated
            if evaluated is not None and not averaging.issuperset(lane.rows):
                kept = evaluated(lane.take(scales.inside(w)), s.state, s.hyper)
                found = _written(found, w, lane, scales.outside(kept, lane))
        for lane in self.averaging:
            s = lane.stages[0]
            average = cast(Averaging, s.method).evaluated(lane.take(w), s.state, s.hyper)
            found = _written(found, w, lane, average)
        return found

    def samples(self, k: int, w: Tensor, scales: Scales) -> Tensor | None:
        """Weights [m, p] of the networks whose average prediction member k is judged by.

        None where it is one network: nearly always.
        """
        if any(k in lane.rows for lane in self.averaging):
            return None
        for lane in self.optimizers:
            (s,) = lane.stages
            samples = cast(Optimizer, s.method).samples
            if k in lane.rows and samples is not None:
                inside = lane.take(scales.inside(w))
                each = samples(inside, s.state, s.hyper).unbind(1)
                return torch.stack([scales.outside(x, lane)[lane.rows.index(k)] for x in each])
        return None

    def every(self) -> list[list[Lane]]:
        return [
            self.batches, self.losses, self.gradients, self.transforms, self.optimizers,
            self.schedules, self.averaging,
        ]  # fmt: skip

    def _remembering(self) -> list[list[Lane]]:
        return [self.gradients, self.transforms, self.optimizers, self.averaging]

    def _check(self, task: ModelTask, recipes: Sequence[Recipe]) -> None:
        shape = task.shape
        for k, recipe in enumerate(recipes):
            for stage, _ in stages_of(self.batches, k):
                if shape.kind not in cast(BatchMethod, stage.method).kinds:
                    raise RecipeError(
                        f"batch '{recipe.point['batch']}' does not serve {shape.kind} data"
                    )
                chooses = cast(BatchMethod, stage.method).choose is not None
                if chooses and task.train.dataset is not None:
                    raise RecipeError(
                        f"batch '{recipe.point['batch']}' chooses among samples kept in memory; "
                        "this data is read sample by sample"
                    )
        for lane in self.losses:
            if shape.target not in cast(Loss, lane.stages[0].method).targets:
                name = recipes[0].point.get("loss")
                raise RecipeError(f"loss '{name}' does not serve a target of {shape.target}")


def _written(found: Tensor, w: Tensor, lane: Lane, part: Tensor) -> Tensor:
    """`found` with the lane's rows in place; a copy first where it is still w itself."""
    if len(lane.rows) == lane.size:
        return part
    found = found.clone() if found is w else found
    found[lane.rows] = part
    return found
