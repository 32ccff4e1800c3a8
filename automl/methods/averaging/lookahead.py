"""Lookahead: slow weights that follow the optimizer's fast ones, a part of the way at a time.

    in every `every`-th step:  slow = slow + pull*(w - slow);  w = slow
    evaluated: slow, which starts at the first weights

The optimizer explores `every` steps ahead, and the slow weights take the share `pull` of where it
got to: a large learning rate becomes bearable. It changes the weights that training goes on from,
as no other average does. The optimizer's own state stays.
Source: Zhang et al. 2019, arXiv:1907.08610.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Averaging, Hyper, Layout, State
from automl.space.ranges import Float, Int


def lookahead_init(w: Tensor, layout: Layout) -> State:
    return {"slow": w.clone()}


def lookahead_update(w: Tensor, state: State, hyper: Hyper, t: Tensor, horizon: Tensor) -> None:
    meets = t % hyper["every"] == 0
    if bool(meets.any()):
        slow = state["slow"]
        slow.lerp_(w, hyper["pull"] * meets.to(w.dtype))
        w.copy_(torch.where(meets, slow, w))


def lookahead_evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    return state["slow"]


METHOD = Averaging(
    init=lookahead_init,
    update=lookahead_update,
    evaluated=lookahead_evaluated,
    moves=True,
    # 5 to 10 steps and .5 to .8 in the paper, which finds the choice unimportant.
    ranges={"every": Int(5, 20, log=True, default=6), "pull": Float(0.3, 0.9, default=0.5)},
    when="an optimizer that swings",
    source="arXiv:1907.08610",
)
