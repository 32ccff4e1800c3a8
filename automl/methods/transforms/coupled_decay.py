"""Coupled decay: the gradient of decay/2*|w|^2 joins the loss's, for any optimizer (L2).

    g = g + decay*w         matrices;  embeddings and vectors where their switch is on

An optimizer that divides by the gradient's size (Adam) then decays weights of large gradients
less. What is decayed: matrices only (both switches off), all but norms and biases (embeddings on,
vectors off: the default), everything (both on). An optimizer's own wd comes on top: fix it at 0
where only this one is meant.
Source: Krogh and Hertz 1991, "A simple weight decay can improve generalization", NIPS 4.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.methods.transforms._decay import decay_share
from automl.space.ranges import Choice, Float


def coupled_decay_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    for slot in layout.slots:
        share = decay_share(slot, hyper, hyper["decay"])
        part = slice(slot.offset, slot.offset + slot.numel)
        g[:, part].addcmul_(w[:, part], share)


METHOD = Transform(
    apply=coupled_decay_transform,
    ranges={
        "decay": Float(1e-6, 1e-2, log=True, default=1e-4),  # 1e-4 for residual networks
        "embeddings": Choice([True, False]),
        "vectors": Choice([False, True]),
    },
    year=1991,
    when="L2 for an optimizer that has none",
    source="NIPS 4, pages 950-957",
)
