"""P-DARTS: the supernet grows deeper while its candidates grow fewer.

    `stages` stages of equal length; stage s has s cells more than the first and of each edge keeps
    the candidates with the strongest alphas: all, then 3 in 5, then 2 in 5
    a skip is left out of an update with probability skip_dropout * (1 - progress of the stage), and
    weighs 1/(1 - p) where it stays; at most `max_skips` skips in the end

A cell that is found shallow is used deep; the stages close that gap. The paper drops single values
after a skip, here the skip is dropped whole. Weights begin anew in each stage, alphas of what is
kept go on. `skip_dropout` 0 leaves it out.

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001.
Source: Chen et al. 2019, arXiv:1904.12760; stages and rates not checked against its program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from automl.methods.stages import Draws, SupernetMethod
from automl.space.ranges import Float, Int


def p_darts_dropped(
    alpha: Tensor, names: Sequence[str], hyper: Mapping[str, float], draws: Draws
) -> Tensor:
    weights = alpha.softmax(0)
    p = hyper["skip_dropout"] * (1 - hyper["progress"])
    if "skip" not in names or len(names) == 1 or p == 0:
        return weights
    stays = float(draws.uniform(1)[0]) >= p
    factor = weights.new_ones(len(names))
    factor[list(names).index("skip")] = 1 / (1 - p) if stays else 0.0
    return weights * factor


METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "stages": Int(1, 5, default=3),
        "skip_dropout": Float(0.0, 0.9, default=0.3),
        "max_skips": Int(0, 1000, default=2),
    },
    noisy=p_darts_dropped,
    selection="argmax",
    when="the network that is wanted is much deeper than the supernet can be",
    source="arXiv:1904.12760",
)
