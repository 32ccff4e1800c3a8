"""FairDARTS: candidates do not compete, each has a gate of its own.

    o(x) = sum_k sigmoid(alpha_k) o_k(x)
    loss of the alphas = L_val - `zero_one` * mean_k (sigmoid(alpha_k) - 1/2)^2

In a softmax a skip's gain is the others' loss, and skips gain early; independent gates take that
unfair advantage away, and the zero-one loss drives them to a decision. The paper keeps every gate
above 0.85; an edge of ours holds one operation, the one whose gate is widest (`max_skips` at most).
The published price is 10, for searches of ten thousand updates; in the two hundred of a small task
it decides before the weights know anything (digits: cells of .77, and of .90 at 0.1).

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001.
Source: Chu et al. 2020, arXiv:1911.12126; the published price is not checked against its program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from automl.methods.stages import SupernetMethod
from automl.space.ranges import Float, Int


def fair_zero_one(alphas: Sequence[Tensor], hyper: Mapping[str, float]) -> Tensor:
    gates = torch.cat([a.sigmoid() for a in alphas])
    return -hyper["zero_one"] * (gates - 0.5).square().mean()


METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "zero_one": Float(0.001, 100.0, log=True, default=0.1),
        "max_skips": Int(0, 1000, default=2),
    },
    weights=torch.sigmoid,
    penalty=fair_zero_one,
    selection="argmax",
    when="skips win the softmax",
    source="arXiv:1911.12126",
)
