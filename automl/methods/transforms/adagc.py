"""AdaGC: clip each tensor's gradient by the lengths it had before.

    first 100 steps:    h = min(1, 1/(|g| + 1e-8))          |g| over all weights of the member
                        g = h*g,  n = min(n, |g|)           n, |g| each tensor by itself
    afterwards:         h = min(1, lambda_rel*n/|g|)
                        g = h*g,  n = beta*n + (1 - beta)*|g|

n learns from clipped gradients only, so a spike moves it by a factor of lambda_rel at most, and
lambda_rel near 1 clips often. In the first 100 steps n is the least length so far.
Source: Wang et al. 2025, arXiv:2502.11034.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float

_ADAGC_WARMUP = 100  # steps clipped by the length 1 of the whole gradient
_ADAGC_EPS = 1e-8


def adagc_init(w: Tensor, layout: Layout) -> State:
    return {"n": w.new_full((len(w), len(layout.slots)), torch.inf)}


def adagc_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    n, parts = state["n"], g.split([slot.numel for slot in layout.slots], dim=1)
    lengths = torch.cat([torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in parts], 1)
    whole = torch.linalg.vector_norm(lengths, dim=1, keepdim=True)
    early = t < _ADAGC_WARMUP
    limit = hyper["lambda_rel"] * n.clamp_min(_ADAGC_EPS) / lengths.clamp_min(_ADAGC_EPS)
    h = torch.where(early, 1 / (whole + _ADAGC_EPS), limit).clamp_max_(1)
    clipped = h * lengths
    later = torch.lerp(n, clipped, 1 - hyper["beta"])
    n.copy_(torch.where(early, torch.minimum(n, clipped), later))
    for x, own in zip(parts, h.split(1, 1), strict=True):
        x.mul_(own)


METHOD = Transform(
    apply=adagc_transform,
    init=adagc_init,
    # 1.05 and .98 in the paper, after 100 steps of warmup.
    ranges={
        "lambda_rel": Float(1.01, 3.0, log=True, default=1.05),
        "beta": Float(0.9, 0.999, default=0.98),
    },
    source="arXiv:2502.11034",
    when="spikes in the loss",
)
