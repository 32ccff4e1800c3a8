"""AdamW: Adam with weight decay beside the gradient, not inside it.

    w = w - lr*wd*w                     decoupled decay, matrices only
    m = b1*m + (1 - b1)*g
    v = b2*v + (1 - b2)*g^2
    w = w - lr * m^ / (sqrt(v^) + eps)      m^ = m/(1 - b1^t), v^ = v/(1 - b2^t)

Every weight moves by about lr, whatever the scale of its gradient; with a constant gradient by
exactly lr. The decay is lr*wd a step, so it follows the schedule, and halving lr halves it.
In the code sqrt(1 - b2^t) is moved from v to eps and lr, which saves a pass over the memory.
Source: Kingma and Ba 2014, arXiv:1412.6980; Loshchilov and Hutter 2017, arXiv:1711.05101.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float


def adamw_init(w: Tensor, layout: Layout) -> State:
    return {"m": torch.zeros_like(w), "v": torch.zeros_like(w)}


def adamw_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, b1, b2 = hyper["lr"], hyper["b1"], hyper["b2"]
    m, v = state["m"], state["v"]
    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    m.lerp_(g, 1 - b1)
    v.lerp_(g.square_(), 1 - b2)
    root = (1 - b2**t).sqrt()
    denominator = torch.sqrt(v, out=g).add_(hyper["eps"] * root)
    update = torch.div(m, denominator, out=denominator)
    w.addcmul_(update, -lr * root / (1 - b1**t))


METHOD = Optimizer(
    init=adamw_init,
    step=adamw_step,
    scaling="entry",
    # Two decades around the usual 1e-3. b2 above .999 remembers longer than a short training
    # lasts; eps above 1e-8 damps weights of tiny gradient, up to 1e-4 still useful with RMS ~ 1e-3.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.999),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
    },
    buffers=2,
    reference="torch.optim.AdamW",
    when="the default",
    evidence="its Nesterov form is AlgoPerf's baseline, see nadam",
    source="arXiv:1711.05101",
)
