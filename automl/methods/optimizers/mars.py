"""MARS: AdamW on gradients corrected by their change, a form of variance reduction.

    c = g + gamma * b1/(1 - b1) * (g - g_last)      g_last is 0 in the first step
    c = c / max(1, |c|)                             each tensor by itself
    m = b1*m + (1 - b1)*c
    v = b2*v + (1 - b2)*c^2
    w = w - lr*wd*w                                 decoupled decay, matrices only
    w = w - lr * sqrt(1 - b2^t)/(1 - b1^t) * m/(sqrt(v) + eps)

g_last comes from the last batch, not from this one at the last weights: the paper's cheaper form,
which needs no second pass. Every weight is trained so; the paper leaves vectors to AdamW.
Source: Yuan et al. 2024, arXiv:2411.10438.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float


def mars_init(w: Tensor, layout: Layout) -> State:
    return {name: torch.zeros_like(w) for name in ("m", "v", "last")}


def mars_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, b1, b2 = hyper["lr"], hyper["b1"], hyper["b2"]
    m, v, last = state["m"], state["v"], state["last"]
    weight = hyper["gamma"] * b1 / (1 - b1)
    c = last.mul_(-weight).addcmul_(g, 1 + weight)
    parts = c.split([slot.numel for slot in layout.slots], dim=1)
    lengths = [torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1) for x in parts]
    torch._foreach_div_(parts, lengths)

    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    m.lerp_(c, 1 - b1)
    v.lerp_(c.square_(), 1 - b2)
    last.copy_(g)
    denominator = torch.sqrt(v, out=g).add_(hyper["eps"])
    update = torch.div(m, denominator, out=denominator)
    w.addcmul_(update, -lr * (1 - b2**t).sqrt() / (1 - b1**t))


METHOD = Optimizer(
    init=mars_init,
    step=mars_step,
    # lr 3e-3, gamma .025, b1 .95, b2 .99 are the authors'.
    ranges={
        "lr": Float(3e-5, 3e-1, log=True, default=3e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.95),
        "b2": Float(0.9, 0.9999, default=0.99),
        "gamma": Float(1e-3, 0.1, log=True, default=0.025),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
    },
    buffers=3,
    reference="pytorch_optimizer.MARS",
    source="arXiv:2411.10438",
    evidence="four short trainings: mean rank 16.1 of 34 (docs/methods.md)",
)
