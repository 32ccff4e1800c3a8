"""PC-DARTS: 1/K of the channels are mixed, the others pass by; edges have weights of their own.

    edge(x) = shuffle([sum_k softmax(alpha)_k o_k(x_first), x_rest]),   x_first: 1/`parts` of x
    node    = sum_i softmax(beta)_i edge_i
    alphas and betas rest for the first `warmup` epochs

Less is computed and kept: larger batches fit. What passes by also makes skips less of an advantage.
Here every edge stays, so beta weighs the mixture only. The strongest alpha is kept (`max_skips`
skips at most).

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001.
Source: Xu et al. 2020, arXiv:1907.05737; K and warm-up (15 of 50) not checked against its program.
"""

from __future__ import annotations

from automl.methods.stages import SupernetMethod
from automl.space.ranges import Choice, Float, Int

METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "parts": Choice([1, 2, 4, 8], default=4),
        "warmup": Int(0, 100, default=6),
        "max_skips": Int(0, 1000, default=2),
    },
    gated=True,
    selection="argmax",
    when="memory is short, or the supernet is slow",
    source="arXiv:1907.05737",
)
