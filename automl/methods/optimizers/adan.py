"""Adan: Nesterov's look ahead by the difference of successive gradients.

    d = g - g_last                              0 in the first step
    m = b1*m + (1 - b1)*g
    n = b2*n + (1 - b2)*d
    v = b3*v + (1 - b3)*(g + b2*d)^2
    u = (m/(1 - b1^t) + b2*n/(1 - b2^t)) / (sqrt(v/(1 - b3^t)) + eps)
    w = (w - lr*u) / (1 + lr*wd)                proximal decay, matrices only

d tells how the gradient changes along the path, without a second pass at a point ahead. The paper
finds it stable at larger rates than AdamW's. Here b1, b2, b3 are what is kept, as in Adam; the
paper's betas are 1 minus these.
Source: Xie et al. 2022, arXiv:2208.06677.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float


def adan_init(w: Tensor, layout: Layout) -> State:
    return {name: torch.zeros_like(w) for name in ("m", "n", "v", "last")}


def adan_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, b1, b2, b3 = hyper["lr"], hyper["b1"], hyper["b2"], hyper["b3"]
    m, n, v, last = state["m"], state["n"], state["v"], state["last"]
    known = (t > 1).to(g.dtype)
    difference = torch.sub(g, last, out=last)
    m.lerp_(g, 1 - b1)
    n.lerp_(difference, known * (1 - b2))
    ahead = difference.mul_(known * b2).add_(g)
    v.lerp_(ahead.square_(), 1 - b3)
    last.copy_(g)

    root, scale = (1 - b3**t).sqrt(), 1 - b1**t
    denominator = torch.sqrt(v, out=g).add_(hyper["eps"] * root)
    update = torch.addcmul(m, n, b2 * scale / (1 - b2**t)).div_(denominator)
    w.addcmul_(update, -lr * root / scale)
    w[:, : layout.decayed].div_(1 + lr * hyper["wd"])


METHOD = Optimizer(
    init=adan_init,
    step=adan_step,
    # b1, b2, b3 = .98, .92, .99 and wd = .02 in the paper.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "wd": Float(1e-4, 0.5, log=True, default=2e-2),
        "b1": Float(0.9, 0.99, default=0.98),
        "b2": Float(0.8, 0.98, default=0.92),
        "b3": Float(0.9, 0.9999, default=0.99),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
    },
    buffers=4,
    reference="pytorch_optimizer.Adan",
    source="arXiv:2208.06677",
    evidence="four short trainings: mean rank 17.4 of 34 (docs/methods.md)",
)
