"""SAM: the gradient at the worst point of a small ball around the weights.

    g = dL/dw at w
    e = rho*g/|g|                       |g| over all weights of the member
    loss, gradient = L(w), dL/dw at w + e

A step costs two passes: compare at equal passes, not at equal steps. The second pass leaves the
running statistics of batch norm alone. The weights are put back by copy, so they come out exactly
as they went in; w + e - e would not.
Source: Foret et al. 2020, arXiv:2010.01412.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Closure, Gradient, Hyper, State
from automl.space.ranges import Float


def sam_gradient(
    closure: Closure, w: Tensor, state: State, hyper: Hyper, t: Tensor
) -> tuple[Tensor, Tensor]:
    loss, g = closure()
    norm = torch.linalg.vector_norm(g, dim=1, keepdim=True)
    before = w.clone()
    w.addcmul_(g, hyper["rho"] / (norm + 1e-12))
    _, g = closure(statistics=False)
    w.copy_(before)
    return loss, g


METHOD = Gradient(
    compute=sam_gradient,
    # .05 in the paper for CIFAR, up to .2 for vision transformers; a factor of five either side.
    ranges={"rho": Float(1e-2, 0.5, log=True, default=0.05)},
    passes=2,
    when="few samples, and passes to spare",
    source="arXiv:2010.01412",
)
