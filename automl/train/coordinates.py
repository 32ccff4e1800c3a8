"""The coordinate check: do a network's activations move alike at all widths?

    h0, h: what a layer puts out for the first 128 validation samples, before and after `updates`
    start = rms(h0);  moved = rms(h - h0), both over samples, places and seeds

Under muP moved stays of one size as the width grows, for every layer; under the standard
parametrization with one rate it grows until training diverges. start may fall in the output layer.
Source: Yang et al. 2022, arXiv:2203.03466, appendix D.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.tasks.task import ModelTask
from automl.train.data import chunks
from automl.train.step import Program

_SAMPLES = 128
_WATCHED = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)


@dataclass(frozen=True)
class Moved:
    """One layer's outputs: their size at the start, and how far the updates moved them."""

    start: float
    moved: float


def coordinates(
    task: ModelTask, recipe: Recipe, *, width: str, at: int, updates: int = 5, seeds: int = 2
) -> dict[str, Moved]:
    """By layer, in the order of the model; its width argument `width` at `at`."""
    point = {**task.arguments(recipe), **recipe.point, width: at}
    recipes = [replace(recipe, point=point, seed=recipe.seed + i) for i in range(seeds)]
    program = Program(task, recipes)
    if program.total < updates:
        raise RecipeError(f"a training of {program.total} updates is too short for a check")
    x = next(iter(chunks(task.valid, program.device, program.dtype)))[0][:_SAMPLES]
    before = [_outputs(m, x) for m in program.packed.modules]
    program.begin(updates)
    for _ in range(updates):
        program.step()
    after = [_outputs(m, x) for m in program.packed.modules]
    return {
        name: Moved(
            _rms([b[name] for b in before]),
            _rms([a[name] - b[name] for a, b in zip(after, before, strict=True)]),
        )
        for name in before[0]
    }


def slopes(moved: Mapping[int, Mapping[str, Moved]]) -> dict[str, float]:
    """The power of the width, by least squares, with which each layer's outputs move."""
    widths = sorted(moved)
    x = [math.log(w) for w in widths]
    mean = sum(x) / len(x)
    spread = sum((v - mean) ** 2 for v in x)
    return {
        name: sum(
            (v - mean) * math.log(max(moved[w][name].moved, 1e-30))
            for v, w in zip(x, widths, strict=True)
        )
        / spread
        for name in moved[widths[0]]
    }


@torch.no_grad()
def _outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with _watched(model, found):
        model.eval()
        model(x)
        model.train()
    return found


@contextmanager
def _watched(model: nn.Module, found: dict[str, Tensor]) -> Iterator[None]:
    def keep(name: str) -> object:
        def hook(module: nn.Module, given: object, output: Tensor) -> None:
            found[name] = output.detach().double().clone()

        return hook

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, _WATCHED)]
    handles = [m.register_forward_hook(keep(n)) for n, m in layers]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rms(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.square().mean()) for t in tensors) / len(tensors))
