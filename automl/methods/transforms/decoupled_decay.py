"""Decoupled decay: weights shrink by lr*decay beside the gradient's step, for any optimizer.

    w = w*(1 - lr*decay)        matrices;  embeddings and vectors where their switch is on

What torch's AdamW does, before the step of any optimizer: halving lr, or a schedule, halves it.
lr is the optimizer's, times the schedule's factor; for one without a rate the factor alone. What
is decayed: matrices only (both switches off), all but norms and biases (embeddings on, vectors
off: the default), everything (both on). An optimizer's own wd comes on top: fix it at 0 where only
this one is meant.
Source: Loshchilov and Hutter 2017, arXiv:1711.05101, as torch.optim.AdamW scales it.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.methods.transforms._decay import decay_share
from automl.space.ranges import Choice, Float


def decoupled_decay_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    for slot in layout.slots:
        share = decay_share(slot, hyper, hyper["lr"] * hyper["decay"])
        w[:, slot.offset : slot.offset + slot.numel].mul_(1 - share)


METHOD = Transform(
    apply=decoupled_decay_transform,
    # AdamW's wd; signs and orthogonal steps bear ten times as much.
    ranges={
        "decay": Float(1e-4, 1.0, log=True, default=1e-2),
        "embeddings": Choice([True, False]),
        "vectors": Choice([False, True]),
    },
    when="an optimizer without a decay, or other weights to decay than matrices",
    source="arXiv:1711.05101",
)
