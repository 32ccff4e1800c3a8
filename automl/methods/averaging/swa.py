"""SWA: the plain mean of the weights after each step of the training's last part.

    n = n + 1;  a = a + (w - a)/n       in steps t > start*horizon

Before the start the weights themselves are evaluated. It wants a learning rate that is still high
in the last part (constant, or WSD with a short cooldown): the mean of points that no longer move
is one of them. The paper averages once an epoch; each step costs no more here and is smoother.
Source: Izmailov et al. 2018, arXiv:1803.05407.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Averaging, Hyper, Layout, State
from automl.space.ranges import Float


def swa_init(w: Tensor, layout: Layout) -> State:
    return {"average": w.clone(), "n": torch.zeros_like(w[:, :1])}


def swa_update(w: Tensor, state: State, hyper: Hyper, t: Tensor, horizon: Tensor) -> None:
    n = state["n"]
    begun = (t > hyper["start"] * horizon).to(n.dtype)
    n.add_(begun)
    state["average"].lerp_(w, begun / n.clamp_min(1))


def swa_evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    return torch.where(state["n"] > 0, state["average"], w)


METHOD = Averaging(
    init=swa_init,
    update=swa_update,
    evaluated=swa_evaluated,
    ranges={"start": Float(0.5, 0.9, default=0.75)},
    when="a constant rate at the end",
    source="arXiv:1803.05407",
)
