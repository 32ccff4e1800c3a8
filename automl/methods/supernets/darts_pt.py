"""DARTS-PT: the plain supernet, read by what each candidate's removal costs.

    for edges in random order: for each candidate k, loss of the supernet without k's share;
    keep the k whose removal hurts most; train on for `fine_tune` epochs

Alpha says which candidate the mixture leans on while it trains, not which is needed. No bound on
skips and no watch, as published; `max_skips` can set one.

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001.
Source: Wang et al. 2021, arXiv:2108.04392; `ruocwang/darts-pt`, projection.py.
"""

from __future__ import annotations

from automl.methods.stages import SupernetMethod
from automl.space.ranges import Float, Int

METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "fine_tune": Int(0, 20, default=5),
        "max_skips": Int(0, 1000, default=1000),
    },
    selection="perturbation",
    when="the supernet's alphas favour skips",
    source="arXiv:2108.04392",
)
