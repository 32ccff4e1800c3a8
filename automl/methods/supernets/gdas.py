"""GDAS: one candidate an edge and update, drawn with Gumbel noise.

    c = one_hot(argmax_k (alpha_k + G_k)/tau),  G_k = -log(-log u_k)      forward
    dc/dalpha as of softmax((alpha + G)/tau)                              backward
    tau falls linearly from `tau` to `tau_end`

An update computes one candidate an edge: a search costs little more than training one network.
The strongest alpha is kept (`max_skips` skips at most).

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001.
Source: Dong and Yang 2019, arXiv:1910.04465; the taus are not checked against its program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from automl.methods.stages import Draws, SupernetMethod
from automl.space.ranges import Float, Int


def gdas_drawn(
    alpha: Tensor, names: Sequence[str], hyper: Mapping[str, float], draws: Draws
) -> Tensor:
    tau = hyper["tau"] + (hyper["tau_end"] - hyper["tau"]) * hyper["progress"]
    u = draws.uniform(len(alpha))[0].to(alpha).clamp(1e-10, 1 - 1e-7)
    soft = ((alpha - torch.log(-torch.log(u))) / tau).softmax(0)
    hard = torch.zeros_like(soft)
    hard[soft.argmax()] = 1.0
    return hard + soft - soft.detach()


METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "tau": Float(0.1, 20.0, log=True, default=10.0),
        "tau_end": Float(0.01, 1.0, log=True, default=0.1),
        "max_skips": Int(0, 1000, default=2),
    },
    noisy=gdas_drawn,
    single=True,
    selection="argmax",
    when="a mixture of all candidates is too much memory or time",
    source="arXiv:1910.04465",
)
