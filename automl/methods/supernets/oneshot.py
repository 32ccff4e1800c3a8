"""One-shot: a supernet trained path by path, then a search over its paths.

    each update: one candidate an edge, drawn uniformly; SGD on that path's weights
    then `evaluations` paths are asked of `sampler`, one of those that search recipes; judged by
    accuracy with the supernet's weights and batch norm measured anew

No alphas, so nothing that skips could win early; the price is that inherited weights rank paths
only roughly. The paper's own search is a genetic algorithm. At most `max_skips` skips.

`epochs` are walks through the half of the training set that the weights learn on.
Source: Guo et al. 2020, arXiv:1904.00420.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from automl.methods.stages import Draws, SupernetMethod
from automl.space.ranges import Choice, Int


def oneshot_path(
    alpha: Tensor, names: Sequence[str], hyper: Mapping[str, float], draws: Draws
) -> Tensor:
    chosen = alpha.new_zeros(len(names))
    chosen[int(float(draws.uniform(1)[0]) * len(names))] = 1.0
    return chosen


METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 400, log=True, default=40),
        "sampler": Choice(
            ["regularized_evolution", "tpe", "gp", "cma_es_margin", "random"],
            default="regularized_evolution",
        ),
        "evaluations": Int(1, 5000, log=True, default=200),
        "max_skips": Int(0, 1000, default=2),
    },
    noisy=oneshot_path,
    single=True,
    learns=False,
    selection="paths",
    when="several architectures of one supernet are wanted, or alphas mislead",
    source="arXiv:1904.00420",
)
