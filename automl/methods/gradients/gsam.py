"""GSAM: SAM that also closes the gap between the loss at the weights and the worst loss nearby.

    g1 = dL/dw at w,  r = rho*factor                the ball shrinks with the learning rate
    g2 = dL/dw at w + r*g1/|g1|
    v = g1 - (g1.g2)/|g2|^2 * g2                    what of g1 stands at right angles to g2
    loss, gradient = L(w), g2 - alpha*v

Stepping against v raises the loss at w a little and leaves the worst loss as it is: both meet,
which is flatness. alpha 0 is SAM, but for the shrinking ball. Two passes a step. The paper's
smallest radius is above 0; here it is 0, at factor 0.
Source: Zhuang et al. 2022, arXiv:2203.08065.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Closure, Gradient, Hyper, State
from automl.space.ranges import Float


def gsam_gradient(
    closure: Closure, w: Tensor, state: State, hyper: Hyper, t: Tensor
) -> tuple[Tensor, Tensor]:
    loss, g = closure()
    first, before = g.clone(), w.clone()
    norm = torch.linalg.vector_norm(first, dim=1, keepdim=True)
    w.addcmul_(first, hyper["rho"] * hyper["factor"] / (norm + 1e-12))
    _, g = closure(statistics=False)
    w.copy_(before)
    along = (first * g).sum(1, keepdim=True) / (g.square().sum(1, keepdim=True) + 1e-24)
    v = first.addcmul_(g, -along)
    return loss, g.addcmul_(v, -hyper["alpha"])


METHOD = Gradient(
    compute=gsam_gradient,
    # rho as SAM's; alpha .01 to .4 in the paper, by network.
    ranges={
        "rho": Float(1e-2, 0.5, log=True, default=0.05),
        "alpha": Float(0.0, 0.8, default=0.2),
    },
    passes=2,
    when="as sam, for transformers",
    source="arXiv:2203.08065",
)
