"""What both forms of Sophia share: the step, for any estimate of the Hessian's diagonal.

    m = b1*m + (1 - b1)*g
    h = b2*h + (1 - b2)*estimate                    in steps 1, 1 + every, 1 + 2*every, ...
    w = w*(1 - lr*wd) - lr * clip(m/max(gamma*h, 1e-12), -1, 1)

Where the clip binds, a step is lr times the momentum's sign, as Lion's; where it does not, it is
a Newton step of rate lr/gamma. gamma is to be tuned until 10 to 50 % of weights are not clipped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, State


def sophia_init(w: Tensor, layout: Layout) -> State:
    return {"m": torch.zeros_like(w), "h": torch.zeros_like(w)}


def sophia_move(
    w: Tensor,
    g: Tensor,
    state: State,
    hyper: Hyper,
    t: Tensor,
    layout: Layout,
    estimate: Callable[[], Tensor],
) -> None:
    m, h, lr = state["m"], state["h"], hyper["lr"]
    m.lerp_(g, 1 - hyper["b1"])
    due = (t - 1) % hyper["every"] == 0
    if due.any():
        torch.where(due, h.lerp(estimate(), 1 - hyper["b2"]), h, out=h)
    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    w.addcmul_((m / (hyper["gamma"] * h).clamp_min_(1e-12)).clamp_(-1, 1), -lr)
