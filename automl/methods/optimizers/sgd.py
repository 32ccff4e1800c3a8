"""SGD: step along the gradient, with momentum, by default Nesterov's.

    g = g + wd*w                        coupled decay (L2), matrices only
    b = momentum*b + g
    w = w - lr*(g + momentum*b)         nesterov
    w = w - lr*b                        otherwise

The momentum is a sum, not a mean: the effective rate is lr/(1 - momentum), so .99 in place of .9
is a ten times larger step. The step grows with the gradient: good values of lr depend on the
scale of the loss and lie 10 to 100 times above AdamW's.
Source: Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13; torch.optim.SGD.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Choice, Float


def sgd_init(w: Tensor, layout: Layout) -> State:
    return {"b": torch.zeros_like(w)}


def sgd_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, momentum, nesterov = hyper["lr"], hyper["momentum"], hyper["nesterov"]
    d = layout.decayed
    g[:, :d].addcmul_(w[:, :d], hyper["wd"])
    b = state["b"].mul_(momentum).add_(g)
    # One expression for both rules: nesterov is 1 or 0, and members of a pack may differ in it.
    w.addcmul_(b, -lr * (1 - nesterov + nesterov * momentum))
    w.addcmul_(g, -lr * nesterov)


METHOD = Optimizer(
    init=sgd_init,
    step=sgd_step,
    ranges={
        "lr": Float(1e-4, 1.0, log=True, default=0.1),
        "momentum": Float(0.8, 0.99, default=0.9),
        "nesterov": Choice([True, False]),
        "wd": Float(1e-6, 1e-2, log=True, default=5e-4),
    },
    scaling="gradient",
    buffers=1,
    reference="torch.optim.SGD",
    year=2013,
    when="convolutions, and a rate that can be tuned",
    source="proceedings.mlr.press/v28/sutskever13",
    evidence="four short trainings: mean rank 16.5 of 34 (docs/methods.md)",
)
