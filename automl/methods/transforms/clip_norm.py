"""Clip by norm: shorten a gradient that is longer than `norm`, keep its direction.

    g = g * min(1, norm/(|g| + 1e-6))       |g| over all weights of the member

A gradient that is not finite stays so: the trial is then seen to diverge, not silently stopped.
For an optimizer that ignores the gradient's scale (Adam, Lion) it acts through the history only.
Source: Pascanu et al. 2012, arXiv:1211.5063; torch.nn.utils.clip_grad_norm_.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float


def clip_norm_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    length = torch.linalg.vector_norm(g, dim=1, keepdim=True)
    g.mul_((hyper["norm"] / (length + 1e-6)).clamp_max(1))


METHOD = Transform(
    apply=clip_norm_transform,
    ranges={"norm": Float(0.1, 10.0, log=True, default=1.0)},
    when="recurrent networks and transformers; spikes in the loss",
    source="arXiv:1211.5063",
)
