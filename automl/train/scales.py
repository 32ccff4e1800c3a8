"""The factors of a parametrization on the weights of a pack, and what they do to a training.

    rate c, wanted for a tensor whose optimizer has the plain rate lr
    a = c            scaling "entry" and "matrix": a step in v moves w by a times as much
    a = sqrt(c)      scaling "gradient": the gradient by v is a times that by w, too

Transforms and the optimizer see v = w/a; the model, averages and checkpoints see w. The gradient
that they get is the one by w times s = sqrt(out/in): under muP its norm does not grow with the
width. For "gradient" that is a; the others take only the direction, or the sign, of a tensor's.

Shapes: k members, p weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from automl.errors import RecipeError
from automl.methods.stages import Layout, Optimizer, Parametrization, Scaling, Slot
from automl.recipe import Recipe
from automl.registry import family
from automl.tasks.task import ModelTask
from automl.train.growth import growths
from automl.train.lanes import Lane

Factors = tuple[float, float, float]  # on initial weights; a; s


@dataclass(frozen=True)
class Scales:
    """Each weight's a and s [k, p]; both None where all are 1."""

    weights: Tensor | None = None
    gradients: Tensor | None = None

    def enter(self, w: Tensor, g: Tensor) -> None:
        """Turn w and g into what transforms and optimizers see, in place."""
        if self.weights is not None and self.gradients is not None:
            w.div_(self.weights)
            g.mul_(self.gradients)

    def leave(self, v: Tensor) -> None:
        """And v back into w."""
        if self.weights is not None:
            v.mul_(self.weights)

    def of(self, lane: Lane) -> Tensor | None:
        """a of the lane's members."""
        return None if self.weights is None else lane.take(self.weights)

    def inside(self, w: Tensor) -> Tensor:
        """v of all members' w."""
        return w if self.weights is None else w / self.weights

    def outside(self, v: Tensor, lane: Lane) -> Tensor:
        """w of v, the lane's part of it."""
        return v if self.weights is None else v * lane.take(self.weights)

    def keep(self, rows: Sequence[int]) -> Scales:
        if self.weights is None or self.gradients is None:
            return self
        return Scales(self.weights[list(rows)], self.gradients[list(rows)])


def scales_of(task: ModelTask, recipes: Sequence[Recipe], layout: Layout, w: Tensor) -> Scales:
    """The scales of a pack, whose initial weights w [k, p] are changed in place.

    Raises:
        RecipeError: a member's parametrization cannot be told from its model.
    """
    each = [factors_of(task, recipe, layout) for recipe in recipes]
    if not any(each):
        return Scales()
    start, a, s = torch.ones_like(w), torch.ones_like(w), torch.ones_like(w)
    for k, factors in enumerate(each):
        for slot in layout.slots:
            part = slice(slot.offset, slot.offset + slot.numel)
            for row, factor in zip((start, a, s), factors.get(slot.name, ()), strict=False):
                row[k, part] = factor
    w.mul_(start)
    return Scales(a, s)


def factors_of(task: ModelTask, recipe: Recipe, layout: Layout) -> Mapping[str, Factors]:
    """By the name of each weight; empty under a parametrization that changes nothing."""
    ((name, values),) = recipe.stage("parametrization") or [("standard", {})]
    method = cast(Parametrization, family("parametrization").get(name))
    if not method.looks:
        return {}
    given = {n: r.default for n, r in method.ranges.items()} | values
    try:
        found = growths(task, recipe, argument=str(given["argument"]), base=int(str(given["base"])))
    except RecipeError as error:
        text = str(error).replace("; name one", f"; name one in parametrization.{name}.argument")
        raise RecipeError(f"parametrization {name}: {text}") from None
    ((chosen, _),) = recipe.stage("optimizer")
    optimizer = cast(Optimizer, family("optimizer").get(chosen))
    out: dict[str, Factors] = {}
    for slot in layout.slots:
        growth, scaling = found[slot.name], _scaling(optimizer, slot)
        rate = method.rate(growth, scaling)
        a = math.sqrt(rate) if scaling == "gradient" else rate
        s = 1.0 if scaling == "own" else math.sqrt(growth.outputs / growth.inputs)
        out[slot.name] = (method.start(growth), a, s)
    return out


def _scaling(optimizer: Optimizer, slot: Slot) -> Scaling:
    """What holds for one tensor: Muon and its kin serve hidden matrices, and are Adam elsewhere."""
    matrix = optimizer.scaling == "matrix"
    return "entry" if matrix and slot.role != "matrix" else optimizer.scaling
