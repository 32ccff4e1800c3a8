"""SmoothDARTS (random smoothing): weights that serve all mixtures near the present one.

    w step:      with softmax(alpha) + U(-e, e)
    alpha step:  with softmax(alpha)
    e rises linearly to `eps`; it begins at a tenth of it

Weights trained so keep their loss when the mixture is cut down to one candidate: the landscape in
the alphas stays flat. The adversarial variant is not here. The strongest alpha is kept
(`max_skips` skips at most).

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001.
Source: Chen and Hsieh 2020, arXiv:2002.05283; `xiangning-chen/SmoothDARTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from automl.methods.stages import Draws, SupernetMethod
from automl.space.ranges import Float, Int


def sdarts_shaken(
    alpha: Tensor, names: Sequence[str], hyper: Mapping[str, float], draws: Draws
) -> Tensor:
    reach = hyper["eps"] * (0.1 + 0.9 * hyper["progress"])
    u = draws.uniform(len(alpha))[0].to(alpha)
    return alpha.softmax(0) + reach * (2 * u - 1)


METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "eps": Float(0.01, 1.0, log=True, default=0.3),
        "max_skips": Int(0, 1000, default=2),
    },
    noisy=sdarts_shaken,
    shakes=True,
    selection="argmax",
    when="the supernet loses much when it is cut down to one candidate an edge",
    source="arXiv:2002.05283",
)
