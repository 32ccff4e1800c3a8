"""How each weight of a model grows with its width, told from the model alone.

    which argument is the width    the whole number that, doubled, leaves all weights their names
                                   and changes the sizes of layers
    which dimensions scale         those that differ between the model at `base` and at 4*base
    how it is initialized          the standard deviation at both widths, over three seeds: it falls
                                   as width^-spread, spread one of 0, 1/2, 1 ...

So a plain torch module needs no marks. A linear layer or convolution says which dimension is its
fan-in; a bare nn.Parameter of which one dimension scales counts as a vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn

from automl.errors import RecipeError
from automl.methods.stages import Growth
from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.tasks.task import ModelTask

_FAR = 4  # times the base, where the model is built again
_SEEDS = 3
_SWAPPED = (nn.Embedding, nn.EmbeddingBag, nn.modules.conv._ConvTransposeNd)  # [in, out, ...]
_CONTRACTS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)  # fan-in is dimension 1, 2, ...

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Width:
    """The argument that makes a model wider, by its full name, and its value in a recipe."""

    name: str
    value: int


def width_of(task: ModelTask, recipe: Recipe, argument: str = "auto") -> Width:
    """The width of the recipe's model.

    Args:
        argument: its name, "width" or "model.width"; "auto": the only one that scales.

    Raises:
        RecipeError: no argument scales, several do, or the one that was named does not.
    """
    numbers = {
        n: v
        for n, v in _arguments(task, recipe).items()
        if isinstance(v, int) and not isinstance(v, bool) and v > 0
    }
    asked = [n for n in numbers if argument in ("auto", n, n.rpartition(".")[2])]
    found = [n for n in asked if _scales(task, recipe, n, numbers[n])]
    if len(found) == 1:
        return Width(found[0], numbers[found[0]])
    short = ", ".join(n.rpartition(".")[2] for n in found)
    if found:
        raise RecipeError(f"several arguments of the model change its width: {short}; name one")
    if argument != "auto":
        known = ", ".join(n.rpartition(".")[2] for n in numbers) or "none"
        raise RecipeError(
            f"'{argument}' is no whole-number argument that changes the sizes of the model's "
            f"layers; its whole numbers: {known}"
        )
    raise RecipeError("the model has no whole-number argument that changes the sizes of its layers")


def growths(task: ModelTask, recipe: Recipe, *, argument: str, base: int) -> dict[str, Growth]:
    """By the name of each trained weight.

    Raises:
        RecipeError: see `width_of`; or the model at `base` cannot be built, or has other weights;
            or its output layer shares the embedding's.
    """
    key = id(task), tuple(sorted(_arguments(task, recipe).items(), key=str)), argument, base
    if key not in _MADE:
        if len(_MADE) >= _KEPT:
            _MADE.clear()
        _MADE[key] = task, _grown(task, recipe, argument, base)
    return _MADE[key][1]


def _grown(task: ModelTask, recipe: Recipe, argument: str, base: int) -> dict[str, Growth]:
    width = width_of(task, recipe, argument)
    small, far = (_resized(task, recipe, width.name, base * n) for n in (1, _FAR))
    try:
        at_base, at_far = _shapes(task, small), _shapes(task, far)
        spreads = _spreads(task, small, far)
    except Exception as error:
        text = " ".join(str(error).split())[:160]
        raise RecipeError(
            f"the model is built at {width.name} = {base} and {_FAR * base}, and this fails: "
            f"{type(error).__name__}: {text}"
        ) from None
    model = _built(task, recipe, meta=True)
    _check_tied(model)
    here = {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}
    if not set(here) == set(at_base) == set(at_far):
        raise RecipeError(
            f"the model at {width.name} = {base} has other weights than at {width.value}"
        )
    return {
        name: _growth(
            shape, at_base[name], at_far[name], _owner(model, name),
            width=width.value / base, spread=spreads[name],
        )
        for name, shape in here.items()
    }  # fmt: skip


def _growth(
    shape: tuple[int, ...],
    base: tuple[int, ...],
    far: tuple[int, ...],
    owner: nn.Module,
    *,
    width: float,
    spread: float,
) -> Growth:
    ratios = [a / b if b != c else 1.0 for a, b, c in zip(shape, base, far, strict=True)]
    scaling = [b != c for b, c in zip(base, far, strict=True)]
    if not any(scaling):
        return Growth("fixed", width=width, spread=spread)
    out = 1 if isinstance(owner, _SWAPPED) and len(shape) > 1 else 0
    others = [i for i in range(len(shape)) if i != out]
    outputs, inputs = ratios[out], math.prod(ratios[i] for i in others)
    wide_in, wide_out = any(scaling[i] for i in others), scaling[out]
    if len(shape) < 2:
        return Growth("vector", outputs=outputs, larger=outputs, width=width, spread=spread)
    if wide_in and not wide_out and not isinstance(owner, _CONTRACTS):
        return Growth("vector", outputs=inputs, larger=inputs, width=width, spread=spread)
    sizes, sizes_at_base = (max(s[out], math.prod(s[i] for i in others)) for s in (shape, base))
    larger = sizes / sizes_at_base
    if wide_in and wide_out:
        return Growth("hidden", inputs, outputs, larger, width, spread)
    return Growth("output" if wide_in else "input", inputs, outputs, larger, width, spread)


def _spreads(task: ModelTask, small: Recipe, far: Recipe) -> dict[str, float]:
    """The power of the width by which each weight's standard deviation falls, to a half."""
    squares: list[dict[str, float]] = []
    for recipe in (small, far):
        sums: dict[str, float] = {}
        for seed in range(_SEEDS):
            for name, p in _built(task, recipe, seed=seed).named_parameters():
                if p.requires_grad:
                    deviation = float(p.detach().std(correction=0))
                    sums[name] = sums.get(name, 0.0) + deviation**2
        squares.append(sums)
    at_base, at_far = squares
    return {
        n: round(math.log(at_base[n] / at_far[n], _FAR)) / 2
        if at_base[n] > 0 and at_far.get(n, 0) > 0  # neither zeros nor a norm's ones
        else 0.0
        for n in at_base
    }


def _scales(task: ModelTask, recipe: Recipe, name: str, value: int) -> bool:
    try:
        now = _shapes(task, recipe)
        wide = _shapes(task, _resized(task, recipe, name, 2 * value))
    except Exception:
        return False
    # Beyond the first two dimensions lie the sides of kernels.
    return set(now) == set(wide) and any(now[n][:2] != wide[n][:2] for n in now)


def _shapes(task: ModelTask, recipe: Recipe) -> Shapes:
    model = _built(task, recipe, meta=True)
    return {n: tuple(p.shape) for n, p in model.named_parameters() if p.requires_grad}


def _built(task: ModelTask, recipe: Recipe, *, seed: int = 0, meta: bool = False) -> nn.Module:
    """The recipe's model; `meta`: without memory for its weights, where it can be made so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with torch.device("meta") if meta else nullcontext():
                return task.build(recipe)
        except Exception:
            if not meta:
                raise
            return task.build(recipe)


def _resized(task: ModelTask, recipe: Recipe, name: str, value: int) -> Recipe:
    return replace(recipe, point={**recipe.point, **_arguments(task, recipe), name: value})


def _arguments(task: ModelTask, recipe: Recipe) -> dict[str, Value]:
    named = {n: v for n, v in recipe.point.items() if n.startswith(("model.", "architecture."))}
    return {**task.arguments(recipe), **named}


def _owner(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _check_tied(model: nn.Module) -> None:
    embeddings = {
        id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)
    }
    if any(isinstance(m, nn.Linear) and id(m.weight) in embeddings for m in model.modules()):
        raise RecipeError("the output layer shares the embedding's weights; give it its own")


_KEPT = 64
_MADE: dict[object, tuple[ModelTask, dict[str, Growth]]] = {}
