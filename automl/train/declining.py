"""What cannot train as a pack, found out by doing it: two members, three updates, in float64.

The traced pack and the plain loop must agree there to 1e-8, weights and buffers: rounding is no
excuse in float64, and what the trace has frozen (a counter, a random number of the model's own)
shows itself within three updates or raises. A refusal is one line for people. In the same way it
is found out whether batches of several sizes can be padded.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train.failures import failure_of
from automl.train.step import Program

_UPDATES = 3
_AGREES = 1e-8
_LEFT_OUT = ("optimizer", "transform", "schedule", "averaging", "gradient")

# What torch says, in small letters, and what it means; in the order in which they are looked for.
_WORDS = {
    "data-dependent": "the model's control flow, or a number in it, depends on its data",
    ".item()": "the model's control flow, or a number in it, depends on its data",
    "dynamic shape": "the model picks out a number of values that depends on its data",
    "batching rule": "an operation of the model has no vectorized form",
    "do not yet support": "an operation of the model has no vectorized form",
    "broadcast shape": "the model fills a tensor that it made by torch.zeros; x.new_zeros packs",
    "saved tensor hooks": "the model checkpoints its activations",
    "setup_context": "an autograd.Function of the model is old in style, as old checkpoints are",
    "vmap support": "a torch.autograd.Function of the model has no vmap rule",
    "data pointer": "the model takes numbers out of its tensors, by tolist or numpy",
    "sparse": "the model has sparse gradients",
}


def reason_to_decline(task: ModelTask, recipe: Recipe) -> str:
    """Why recipes like this one must train alone; "" when they can train as packs."""
    try:
        loop = _trained(task, [recipe, recipe], "loop")
    except Exception as error:
        return f"the model does not train in float64 ({failure_of(error).message})"
    try:
        traced = _trained(task, [recipe, recipe], "traced")
    except Exception as error:
        return worded(error)
    distance = _distance(traced, loop)
    if distance > _AGREES:
        return f"vectorized, the model gives other results (by {distance:.0e})"
    return ""


def pads(task: ModelTask, recipe: Recipe) -> bool:
    """Whether a member of smaller batches, filled up, is trained as on batches of its own."""
    size = recipe.point.get("batch_size")
    if not isinstance(size, int) or size < 2:
        return False
    # An odd number: torch draws 16 normal numbers at a time, and begins alike where these suffice.
    fewer = max(size // 2 - 1, 1) | 1
    smaller = replace(recipe, point={**recipe.point, "batch_size": fewer})
    try:
        loop, traced = (_trained(task, [recipe, smaller], engine) for engine in ("loop", "traced"))
    except Exception:  # refused by name, or what the model does of batches of another size
        return False
    return _distance(traced, loop) <= _AGREES


def _distance(traced: Program, loop: Program) -> float:
    """The largest difference of weights and buffers, beside the largest of each kind."""
    pairs = [(traced.packed.w, loop.packed.w)]
    pairs += zip(traced.packed.buffers, loop.packed.buffers, strict=True)
    # Where the loop itself diverges in three updates there is nothing to compare.
    distances = [
        ((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).item()
        for a, b in pairs
        if a.is_floating_point() and torch.isfinite(b).all()
    ]
    return max((math.inf if math.isnan(d) else d for d in distances), default=0.0)


def worded(error: BaseException) -> str:
    """Why a trace failed, in one line for people."""
    text = str(error).lower()
    for sign, words in _WORDS.items():
        if sign in text:
            name = re.search(r"aten::\w+", text)
            return f"{words} ({name[0]})" if name and "operation" in words else words
    return failure_of(error).message


def _trained(
    task: ModelTask, recipes: Sequence[Recipe], engine: Literal["loop", "traced"]
) -> Program:
    """A few updates of networks like these in float64, each with a seed of its own."""
    exact = [
        replace(recipe, point=_exact(recipe), seed=recipe.seed + k)
        for k, recipe in enumerate(recipes)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = Program(task, exact, engine=engine)
        program.begin(min(_UPDATES, program.total))
        for _ in range(min(_UPDATES, program.total)):
            program.step()
    return program


def _exact(recipe: Recipe) -> dict[str, Value]:
    # Under plain SGD: one that follows signs makes much of rounding where a gradient is 0.
    model = {n: v for n, v in recipe.point.items() if n.split(".")[0] not in _LEFT_OUT}
    return {**model, "optimizer": "sgd", "precision": "float64"}
