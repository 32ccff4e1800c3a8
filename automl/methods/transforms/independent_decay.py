"""Independent decay: weights shrink by a share that follows the schedule, not the learning rate.

    w = w*(1 - decay*factor)        matrices;  embeddings and vectors where their switch is on

AdamW as torch has it shrinks by lr*wd: whoever halves lr halves the decay too. Here the two are
searched apart, as in AdamW's paper; decay stands for lr*wd. It acts before the optimizer's step,
whichever that is; the gradient stays as it is. What is decayed: matrices only (both switches off),
all but norms and biases (embeddings on, vectors off: the default), everything (both on). An
optimizer's own wd comes on top: fix it at 0 where only this one is meant.
Source: Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2; Wortsman et al. 2023,
arXiv:2309.14322.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.methods.transforms._decay import decay_share
from automl.space.ranges import Choice, Float


def independent_decay_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    decay = hyper["decay"] * hyper["factor"]
    for slot in layout.slots:
        share = decay_share(slot, hyper, decay)
        w[:, slot.offset : slot.offset + slot.numel].mul_(1 - share)


METHOD = Transform(
    apply=independent_decay_transform,
    # AdamW's usual lr*wd is 1e-5; 1e-4 in the second paper.
    ranges={
        "decay": Float(1e-7, 1e-2, log=True, default=1e-5),
        "embeddings": Choice([True, False]),
        "vectors": Choice([False, True]),
    },
    when="searches that vary the learning rate widely",
    source="arXiv:2309.14322",
)
