"""AdaNorm: AdamW whose momentum sees no gradient shorter than the usual.

    n = r*n + (1 - r)*|g|                   each tensor by itself
    m = b1*m + (1 - b1)*g*max(1, n/|g|)     a short gradient is stretched to n; v sees it as it is
    v = b2*v + (1 - b2)*g^2
    w = w - lr*wd*w                         decoupled decay, matrices only
    w = w - lr * sqrt(1 - b2^t)/(1 - b1^t) * m/(sqrt(v) + eps)

n starts at 0, so nothing is stretched in the first steps.
Source: Dubey et al. 2022, arXiv:2210.06364.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float


def adanorm_init(w: Tensor, layout: Layout) -> State:
    return {
        "m": torch.zeros_like(w),
        "v": torch.zeros_like(w),
        "norms": w.new_zeros(len(w), len(layout.slots)),
    }


def adanorm_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    lr, b1, b2 = hyper["lr"], hyper["b1"], hyper["b2"]
    m, v, norms = state["m"], state["v"], state["norms"]
    sizes = [slot.numel for slot in layout.slots]
    parts = g.split(sizes, dim=1)
    lengths = torch.cat([torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in parts], 1)
    norms.lerp_(lengths, 1 - hyper["r"])
    stretch = torch.where(lengths > 0, norms / lengths, torch.ones_like(norms)).clamp_min_(1)

    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    m.mul_(b1)
    weights = (1 - b1) * stretch
    for mean, x, weight in zip(m.split(sizes, 1), parts, weights.split(1, 1), strict=True):
        mean.addcmul_(x, weight)
    v.lerp_(g.square_(), 1 - b2)
    denominator = torch.sqrt(v, out=g).add_(hyper["eps"])
    update = torch.div(m, denominator, out=denominator)
    w.addcmul_(update, -lr * (1 - b2**t).sqrt() / (1 - b1**t))


METHOD = Optimizer(
    init=adanorm_init,
    step=adanorm_step,
    # r .95 in the paper.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.999),
        "r": Float(0.8, 0.99, default=0.95),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
    },
    buffers=2,
    reference="pytorch_optimizer.AdaNorm",
    source="arXiv:2210.06364",
    evidence="four short trainings: mean rank 12.2 of 34 (docs/methods.md)",
)
