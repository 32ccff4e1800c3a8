"""Schedule-free SGD: an average of the iterates in place of a falling learning rate.

    lr_t = lr * min(1, t/warmup_steps)
    g = g + wd*y                                y: the weights that train; matrices only
    c = lr_max^2 / sum of lr_max^2 so far       lr_max: the largest lr_t so far
    y = y + c*(z - y) + lr_t*(momentum*(1 - c) - 1)*g
    z = z - lr_t*g
    x = (y - (1 - momentum)*z)/momentum         evaluated and kept

It has no horizon: values at any two steps are comparable, and a training can be extended. No
schedule may touch lr; the warmup is its own and in steps. y is noisier than x: never judge by it.
Here momentum is the share of x in y, a mean, so good values of lr are about 10 times those of SGD
with momentum .9, whose momentum is a sum.
Source: Defazio et al. 2024, arXiv:2405.15682.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float, Int


def schedule_free_sgd_init(w: Tensor, layout: Layout) -> State:
    zero = torch.zeros_like(w[:, :1])
    return {"z": w.clone(), "lr_max": zero, "weight_sum": zero.clone()}


def schedule_free_sgd_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    d, z, lr_max, weight_sum = layout.decayed, state["z"], state["lr_max"], state["weight_sum"]
    lr = hyper["lr"] * (t / hyper["warmup_steps"]).clamp_max(1)
    torch.maximum(lr_max, lr, out=lr_max)
    weight_sum.add_(lr_max.square())
    c = lr_max.square() / weight_sum

    g[:, :d].addcmul_(w[:, :d], hyper["wd"])
    w.lerp_(z, c).addcmul_(g, lr * (hyper["momentum"] * (1 - c) - 1))
    z.addcmul_(g, -lr)


def schedule_free_sgd_evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    return torch.lerp(w, state["z"], 1 - 1 / hyper["momentum"])


METHOD = Optimizer(
    init=schedule_free_sgd_init,
    step=schedule_free_sgd_step,
    evaluated=schedule_free_sgd_evaluated,
    pins=("schedule",),
    # lr: 1 to 10 in the paper for images. momentum up to .98 as there; warmup_steps = 1 is none.
    ranges={
        "lr": Float(1e-3, 10.0, log=True, default=1.0),
        "momentum": Float(0.8, 0.98, default=0.9),
        "wd": Float(1e-6, 1e-2, log=True, default=5e-4),
        "warmup_steps": Int(1, 1000, log=True, default=20),
    },
    scaling="gradient",
    buffers=1,
    reference="schedulefree.SGDScheduleFree",
    source="arXiv:2405.15682",
    when="the budget is unknown, or grows",
    evidence="four short trainings: mean rank 18.9 of 34 (docs/methods.md)",
)
