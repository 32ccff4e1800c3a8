"""RMSprop: each weight's gradient divided by its own recent size, then momentum.

    g = g + wd*w                        coupled decay (L2), matrices only
    v = alpha*v + (1 - alpha)*g^2
    b = momentum*b + g/(sqrt(v) + eps)
    w = w - lr*b

v starts at 0 and nothing corrects for it: the first steps are 1/sqrt(1 - alpha) times longer than
later ones (10 times at .99), which a warmup hides. With momentum the effective rate is
lr/(1 - momentum), as in SGD.
Source: Tieleman and Hinton 2012, Coursera "Neural Networks for Machine Learning", lecture 6.5;
torch.optim.RMSprop.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float


def rmsprop_init(w: Tensor, layout: Layout) -> State:
    return {"v": torch.zeros_like(w), "b": torch.zeros_like(w)}


def rmsprop_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    v, d = state["v"], layout.decayed
    g[:, :d].addcmul_(w[:, :d], hyper["wd"])
    square = g.square()
    v.lerp_(square, 1 - hyper["alpha"])
    denominator = torch.sqrt(v, out=square).add_(hyper["eps"])
    b = state["b"].mul_(hyper["momentum"]).addcdiv_(g, denominator)
    w.addcmul_(b, -hyper["lr"])


METHOD = Optimizer(
    init=rmsprop_init,
    step=rmsprop_step,
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "alpha": Float(0.9, 0.999, default=0.99),
        "momentum": Float(0.0, 0.9, default=0.0),
        "eps": Float(1e-10, 1e-3, log=True, default=1e-8),
        "wd": Float(1e-6, 1e-2, log=True, default=1e-5),
    },
    buffers=2,
    reference="torch.optim.RMSprop",
    year=2012,
    when="recurrent networks; published recipes",
    source="Hinton 2012, lecture 6.5",
    evidence="four short trainings: mean rank 23.9 of 34 (docs/methods.md)",
)
