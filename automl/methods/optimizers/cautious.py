"""Cautious AdamW: move only those weights whose update agrees with the present gradient.

    m = b1*m + (1 - b1)*g
    v = b2*v + (1 - b2)*g^2
    u = m^ / (sqrt(v^) + eps)                   m^ = m/(1 - b1^t), v^ = v/(1 - b2^t)
    mask = 1 where m*g > 0, else 0
    w = w - lr*wd*w                             decoupled decay, matrices only;
                                                with cautious_wd only where u*w >= 0
    w = w - lr * u*mask * n/(sum of mask + 1)   n weights of the tensor, each by itself

No weight moves against its gradient, so for a small lr the loss on this batch does not rise. The
factor n/(sum + 1) keeps the mean step where it was. With cautious_wd a weight is not decayed while
the update makes it larger.
Source: Liang et al. 2024, arXiv:2411.16085; cautious_wd: arXiv:2510.12402.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Choice, Float


def cautious_init(w: Tensor, layout: Layout) -> State:
    return {"m": torch.zeros_like(w), "v": torch.zeros_like(w)}


def cautious_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    lr, b1, b2 = hyper["lr"], hyper["b1"], hyper["b2"]
    m, v, d = state["m"], state["v"], layout.decayed
    m.lerp_(g, 1 - b1)
    mask = torch.mul(m, g).gt_(0)
    v.lerp_(g.square_(), 1 - b2)
    root = (1 - b2**t).sqrt()
    denominator = torch.sqrt(v, out=g).add_(hyper["eps"] * root)
    update = torch.div(m, denominator, out=denominator)

    if bool(hyper["cautious_wd"].any()):
        grows = (update[:, :d] * w[:, :d] < 0).to(w.dtype).mul_(hyper["cautious_wd"])
        w[:, :d].mul_(1 - lr * hyper["wd"] * (1 - grows))
    else:
        w[:, :d].mul_(1 - lr * hyper["wd"])
    update.mul_(mask)
    rate = lr * root / (1 - b1**t)
    sizes = [slot.numel for slot in layout.slots]
    for own, step, agreed in zip(
        w.split(sizes, 1), update.split(sizes, 1), mask.split(sizes, 1), strict=True
    ):
        share = agreed.shape[1] / (agreed.sum(1, keepdim=True) + 1)
        own.addcmul_(step, -rate * share)


METHOD = Optimizer(
    init=cautious_init,
    step=cautious_step,
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.999),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
        "cautious_wd": Choice([False, True]),
    },
    buffers=2,
    reference="",
    source="arXiv:2411.16085",
    when="in AdamW's place",
    evidence="four short trainings: mean rank 12.4 of 34 (docs/methods.md)",
)
