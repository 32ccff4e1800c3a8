"""Sophia-G: a clipped Newton step, its curvature from gradients at labels the model itself draws.

    m = b1*m + (1 - b1)*g
    h = b2*h + (1 - b2)*B*s^2                       in steps 1, 1 + every, 1 + 2*every, ...
    w = w*(1 - lr*wd) - lr * clip(m/max(gamma*h, 1e-12), -1, 1)

s is the gradient of the batch's mean loss with each of its B labels drawn from the model's softmax
(for regression from a normal around its output): B*s^2 estimates the diagonal of the Gauss-Newton
matrix, never below 0. Where the clip binds, a step is lr times the momentum's sign, as Lion's.
gamma is to be tuned until 10 to 50 % of weights are not clipped. An estimate costs one pass.
Source: Liu et al. 2023, arXiv:2305.14342.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.optimizers._sophia import sophia_init, sophia_move
from automl.methods.stages import Hyper, Layout, Looks, Optimizer, State
from automl.space.ranges import Float, Int


def sophia_g_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, looks: Looks
) -> None:
    def estimate() -> Tensor:
        return looks.sampled(w).square_().mul_(looks.labels)

    sophia_move(w, g, state, hyper, t, layout, estimate)


METHOD = Optimizer(
    init=sophia_init,
    step=sophia_g_step,
    # b1, b2, gamma and every: the paper's; lr a little below AdamW's, wd .2 there.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
        "wd": Float(1e-3, 0.5, log=True, default=0.1),
        "b1": Float(0.9, 0.98, default=0.965),
        "b2": Float(0.9, 0.999, default=0.99),
        "gamma": Float(5e-3, 0.2, log=True, default=0.05),
        "every": Int(2, 20, log=True, default=10),
    },
    buffers=2,
    passes=1.1,
    looks=True,
    source="arXiv:2305.14342",
    when="language models; as cheap as AdamW",
    evidence="authors: half of AdamW's steps on GPT-2 of 125M to 1.5B weights (not rerun here); "
    "mean rank 23.0 of 34 (docs/methods.md)",
)
