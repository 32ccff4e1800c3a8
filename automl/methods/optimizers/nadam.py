"""NAdamW: AdamW whose momentum looks one step ahead, after Nesterov.

    w = w - lr*wd*w                             decoupled decay, matrices only
    m = b1*m + (1 - b1)*g
    v = b2*v + (1 - b2)*g^2
    u_t = b1*(1 - 0.96^(psi*t)/2)               rises from about b1/2 to b1
    U_t = u_1 * u_2 * ... * u_t
    n = (1 - u_t)*g/(1 - U_t) + u_(t+1)*m/(1 - U_(t+1))
    w = w - lr * n / (sqrt(v^) + eps)           v^ = v/(1 - b2^t)

The newest gradient counts more than in Adam's m. With b1 = .9 and psi = .004 the momentum needs
about 20000 steps to rise from .45 to .86; a larger psi is quicker.
Source: Dozat 2016, openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ; torch.optim.NAdam.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float


def nadam_init(w: Tensor, layout: Layout) -> State:
    return {
        "m": torch.zeros_like(w),
        "v": torch.zeros_like(w),
        "product": torch.ones_like(w[:, :1]),
    }


def nadam_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, b1, b2, psi = hyper["lr"], hyper["b1"], hyper["b2"], hyper["psi"]
    m, v, product = state["m"], state["v"], state["product"]
    u = b1 * (1 - 0.5 * 0.96 ** (psi * t))
    following = b1 * (1 - 0.5 * 0.96 ** (psi * (t + 1)))
    product.mul_(u)

    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    m.lerp_(g, 1 - b1)
    n = g * ((1 - u) / (1 - product))
    n.addcmul_(m, following / (1 - product * following))
    v.lerp_(g.square_(), 1 - b2)
    root = (1 - b2**t).sqrt()
    n.div_(torch.sqrt(v, out=g).add_(hyper["eps"] * root))
    w.addcmul_(n, -lr * root)


METHOD = Optimizer(
    init=nadam_init,
    step=nadam_step,
    # As AdamW's. psi is .004 in the paper and in torch.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.999),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
        "psi": Float(1e-3, 1e-1, log=True, default=4e-3),
    },
    buffers=2,
    reference="torch.optim.NAdam",
    source="openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ",
    year=2016,
    when="in AdamW's place",
    evidence="AlgoPerf v0.5 (NadamW, 'baseline'): .590 tuned, sixth of eleven; .820 untuned, "
    "second of six; v0.6: .458 tuned (benchmarks/algoperf.py)",
)
