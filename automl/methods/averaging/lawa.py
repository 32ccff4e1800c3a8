"""LAWA: the mean of the latest six snapshots of the weights.

    s = max(1, floor(window*horizon/6))         steps between snapshots
    a = mean of w after the last six of the steps s, 2s, 3s, ...

A tail that moves along: unlike swa it needs no start, and can be looked at at any time in a
training. It shows early what a decayed learning rate would reach, so it wants a rate that is
still high. Before the first snapshot the weights themselves are evaluated. Six snapshots are kept
whole: six numbers a weight, the most of all averages.
Source: Kaddour 2022, arXiv:2209.14981; Sanyal et al. 2023, arXiv:2306.03241.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Averaging, Hyper, Layout, State
from automl.space.ranges import Float

_LAWA_SNAPSHOTS = 6


def lawa_init(w: Tensor, layout: Layout) -> State:
    kept = w.new_zeros((w.shape[0], _LAWA_SNAPSHOTS, w.shape[1]))
    return {"kept": kept, "n": torch.zeros_like(w[:, :1])}


def lawa_update(w: Tensor, state: State, hyper: Hyper, t: Tensor, horizon: Tensor) -> None:
    every = (hyper["window"] * horizon / _LAWA_SNAPSHOTS).floor().clamp_min(1)
    due = t % every == 0
    if bool(due.any()):
        places = torch.arange(_LAWA_SNAPSHOTS, device=w.device)
        here = due & (places == state["n"] % _LAWA_SNAPSHOTS)
        kept = state["kept"]
        kept.copy_(torch.where(here.unsqueeze(2), w.unsqueeze(1), kept))
        state["n"].add_(due.to(w.dtype))


def lawa_evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    n = state["n"]
    mean = state["kept"].sum(1) / n.clamp(1, _LAWA_SNAPSHOTS)
    return torch.where(n > 0, mean, w)


METHOD = Averaging(
    init=lawa_init,
    update=lawa_update,
    evaluated=lawa_evaluated,
    # The paper keeps six checkpoints of as many epochs, out of 90 on ImageNet.
    ranges={"window": Float(0.02, 0.4, log=True, default=0.1)},
    when="a look at the final quality before the end",
    evidence="AlgoPerf 2024: two entries, neither ahead of the baseline",
    source="arXiv:2209.14981",
)
