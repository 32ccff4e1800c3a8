"""Gradient stabilizer: give the gradient a length that depends on the history of its lengths.

    n = |g|                                     each tensor by itself
    a = gamma1*a + (1 - gamma1)*n
    b = gamma2*b + (1 - gamma2)*n^2
    g = g/n * a^/(sqrt(b^) + 1e-8)              a^ = a/(1 - gamma1^t), b^ = b/(1 - gamma2^t)

With lengths that stay the same the new length is 1. A single spike, however large, comes out at
(1 - gamma1)/sqrt(1 - gamma2) = .949 of the defaults. It is made to stand before Adam; before SGD
the rate loses its dependence on the loss's scale.
Source: Huang et al. 2025, arXiv:2502.17055 (AdaGN, inside StableSPAM).
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float

_GRADIENT_STABILIZER_EPS = 1e-8


def gradient_stabilizer_init(w: Tensor, layout: Layout) -> State:
    n = len(layout.slots)
    return {"a": w.new_zeros(len(w), n), "b": w.new_zeros(len(w), n)}


def gradient_stabilizer_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    gamma1, gamma2, a, b = hyper["gamma1"], hyper["gamma2"], state["a"], state["b"]
    parts = g.split([slot.numel for slot in layout.slots], dim=1)
    n = torch.cat([torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in parts], 1)
    a.lerp_(n, 1 - gamma1)
    b.lerp_(n.square(), 1 - gamma2)
    length = a / (1 - gamma1**t) / ((b / (1 - gamma2**t)).sqrt() + _GRADIENT_STABILIZER_EPS)
    # A gradient of 0 has no direction: it stays 0.
    scale = torch.where(n > 0, length / n, length)
    for x, own in zip(parts, scale.split(1, 1), strict=True):
        x.mul_(own)


METHOD = Transform(
    apply=gradient_stabilizer_transform,
    init=gradient_stabilizer_init,
    # .7 and .9 in the paper.
    ranges={
        "gamma1": Float(0.5, 0.99, default=0.7),
        "gamma2": Float(0.8, 0.999, default=0.9),
    },
    source="arXiv:2502.17055",
    when="spikes in the loss",
)
