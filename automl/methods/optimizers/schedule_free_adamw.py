"""Schedule-free AdamW: an average of the iterates in place of a falling learning rate.

    lr_t = lr * min(1, t/warmup_steps)
    v = b2*v + (1 - b2)*g^2                          g is taken at y, the weights that train
    d = g/(sqrt(v/(1 - b2^t)) + eps) + wd*y          decay on matrices only
    c = lr_max^2 / sum of lr_max^2 so far            lr_max: the largest lr_t so far
    y = y + c*(z - y) + lr_t*(b1*(1 - c) - 1)*d
    z = z - lr_t*d
    x = (y - (1 - b1)*z)/b1                          evaluated and kept

It has no horizon: values at any two steps are comparable, and a training can be extended. No
schedule may touch lr; the warmup is its own and in steps. y is noisier than x: never judge by it.
Good values of lr are 1 to 10 times AdamW's.
Source: Defazio et al. 2024, arXiv:2405.15682.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float, Int


def schedule_free_adamw_init(w: Tensor, layout: Layout) -> State:
    zero = torch.zeros_like(w[:, :1])
    return {
        "z": w.clone(),
        "v": torch.zeros_like(w),
        "lr_max": zero,
        "weight_sum": zero.clone(),
    }


def schedule_free_adamw_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    b1, b2, d = hyper["b1"], hyper["b2"], layout.decayed
    z, v, lr_max, weight_sum = state["z"], state["v"], state["lr_max"], state["weight_sum"]
    lr = hyper["lr"] * (t / hyper["warmup_steps"]).clamp_max(1)
    torch.maximum(lr_max, lr, out=lr_max)
    weight_sum.add_(lr_max.square())
    c = lr_max.square() / weight_sum

    # g becomes d/root: sqrt(1 - b2^t) is moved from v to eps and the rates, as in AdamW.
    square, root = g.square(), (1 - b2**t).sqrt()
    v.lerp_(square, 1 - b2)
    g.div_(torch.sqrt(v, out=square).add_(hyper["eps"] * root))
    g[:, :d].addcmul_(w[:, :d], hyper["wd"] / root)
    w.lerp_(z, c).addcmul_(g, lr * root * (b1 * (1 - c) - 1))
    z.addcmul_(g, -lr * root)


def schedule_free_adamw_evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    return torch.lerp(w, state["z"], 1 - 1 / hyper["b1"])


METHOD = Optimizer(
    init=schedule_free_adamw_init,
    step=schedule_free_adamw_step,
    evaluated=schedule_free_adamw_evaluated,
    pins=("schedule",),
    # b1 up to .98 as in the paper. warmup_steps = 1 is no warmup.
    ranges={
        "lr": Float(3e-5, 3e-1, log=True, default=3e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.999),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
        "warmup_steps": Int(1, 1000, log=True, default=20),
    },
    buffers=2,
    reference="schedulefree.AdamWScheduleFree",
    when="a length not known beforehand",
    evidence="AlgoPerf v0.5: .854 untuned, first of six; .773 tuned, second of eleven; NadamW "
    ".820 and .590 (benchmarks/algoperf.py)",
    source="arXiv:2405.15682",
)
