"""AdaBound: Adam at the start, SGD at the end, by bounds that close in on one rate.

    w = w - lr*wd*w                             decoupled decay, matrices only
    m = b1*m + (1 - b1)*g
    v = b2*v + (1 - b2)*g^2
    a = lr * sqrt(1 - b2^t)/(1 - b1^t) / (sqrt(v) + eps)        Adam's rate of each weight
    low  = f*final_lr * (1 - 1/(gamma*t + 1))
    high = f*final_lr * (1 + 1/(gamma*t))       f: the schedule's factor
    w = w - min(max(a, low), high) * m

final_lr is a rate of SGD, and takes over after some 1/gamma steps. The aim is SGD's generalization
with Adam's start. final_lr follows the schedule, as lr does.
Source: Luo et al. 2019, arXiv:1902.09843.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float


def adabound_init(w: Tensor, layout: Layout) -> State:
    return {"m": torch.zeros_like(w), "v": torch.zeros_like(w)}


def adabound_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    lr, b1, b2, gamma = hyper["lr"], hyper["b1"], hyper["b2"], hyper["gamma"]
    m, v = state["m"], state["v"]
    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    m.lerp_(g, 1 - b1)
    v.lerp_(g.square_(), 1 - b2)
    final = hyper["factor"] * hyper["final_lr"]
    low, high = final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))
    rate = torch.div(
        lr * (1 - b2**t).sqrt() / (1 - b1**t), torch.sqrt(v, out=g).add_(hyper["eps"]), out=g
    )
    torch.clamp(rate, low, high, out=rate)
    w.addcmul_(rate, m, value=-1)


METHOD = Optimizer(
    init=adabound_init,
    step=adabound_step,
    # final_lr .1 and gamma .001 in the paper, which finds little dependence on either.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "final_lr": Float(1e-2, 1.0, log=True, default=0.1),
        "gamma": Float(1e-4, 1e-1, log=True, default=1e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.999),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
    },
    buffers=2,
    reference="pytorch_optimizer.AdaBound",
    source="arXiv:1902.09843",
    evidence="four short trainings: mean rank 18.4 of 34 (docs/methods.md)",
)
