"""DARTS as we would run it: first order, selection by perturbation, few skips, an eye on collapse.

    o(x) = sum_k softmax(alpha_e)_k o_k(x)      a mixture of all candidates on each edge
    alpha: Adam on L_val(w, alpha);   w: SGD on L_train(w, alpha), in turn
    then, edge by edge: keep the candidate whose removal costs the supernet most (`selection`
    "perturbation"), train on for `fine_tune` epochs, go to the next; at most `max_skips` skips

`epochs` are walks through the half of the training set that the weights learn on, `alpha_lr` is
Adam's rate for the alphas; the weights learn by SGD of momentum 0.9 from 0.1 to 0.001. `order` 2
takes the alphas' gradient one step of the weights ahead, at 2.5 times the cost. `selection`
"argmax" is the paper's: the strongest alpha. With `watch` the largest eigenvalue of the Hessian of
L_val in the alphas is measured each epoch, and the search stops where it rises while skips lead on
most edges; the alphas are then those of before the rise.
Source: Liu et al. 2019, arXiv:1806.09055; Wang et al. 2021, arXiv:2108.04392 (perturbation);
Zela et al. 2020, arXiv:1909.09656 (watch).
"""

from __future__ import annotations

from automl.methods.stages import SupernetMethod
from automl.space.ranges import Choice, Float, Int

METHOD = SupernetMethod(
    ranges={
        "epochs": Int(1, 200, log=True, default=20),
        "alpha_lr": Float(1e-4, 3e-2, log=True, default=3e-3),
        "order": Choice([1, 2], default=1),
        "selection": Choice(["perturbation", "argmax"], default="perturbation"),
        "max_skips": Int(0, 1000, default=2),
        "fine_tune": Int(0, 20, default=2),
        "watch": Choice([True, False], default=True),
    },
    when="a first try of an architecture search",
    source="arXiv:1806.09055",
)
