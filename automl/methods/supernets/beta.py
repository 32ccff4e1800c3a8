"""beta-DARTS: a price on large alphas that rises with the epochs.

    loss of the alphas = L_val + lambda * mean_e logsumexp(alpha_e),   lambda = `slope` * epoch

logsumexp is the smooth maximum: its gradient is softmax(alpha), so the strongest pays most, and the
distance between candidates grows only where the data insist. The published slope is 50 in 100
epochs, each of some hundred updates; with the ten an epoch of a small task it decides before the
weights know anything (digits: cells of .67, and of .89 at 0.01). The strongest alpha is kept
(`max_skips` skips at most).

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001.
Source: Ye et al. 2022, arXiv:2203.01665; `Sunshine-Ye/Beta-DARTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from automl.methods.stages import SupernetMethod
from automl.space.ranges import Float, Int


def beta_decay(alphas: Sequence[Tensor], hyper: Mapping[str, float]) -> Tensor:
    smooth = torch.stack([a.logsumexp(0) for a in alphas])
    return hyper["slope"] * hyper["epoch"] * smooth.mean()


METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "slope": Float(0.001, 5.0, log=True, default=0.01),
        "max_skips": Int(0, 1000, default=2),
    },
    penalty=beta_decay,
    selection="argmax",
    when="few epochs, or alphas that run away",
    source="arXiv:2203.01665",
)
