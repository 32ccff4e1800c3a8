"""ASAM: SAM whose ball is stretched by each weight's own size.

    T = |w| + eta                           elementwise
    e = rho * T^2 g / |T g|                 g = dL/dw at w;  |.| over all weights of the member
    loss, gradient = L(w), dL/dw at w + e

Rescaling the weights of a layer without changing the network (ReLU) then changes nothing, which
is not so for SAM's ball. rho counts relative change: good values lie about ten times above SAM's.
Two passes a step; the weights come back exactly. The paper's code gives biases SAM's own ball;
here all weights are treated alike.
Source: Kwon et al. 2021, arXiv:2102.11600.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Closure, Gradient, Hyper, State
from automl.space.ranges import Float


def asam_gradient(
    closure: Closure, w: Tensor, state: State, hyper: Hyper, t: Tensor
) -> tuple[Tensor, Tensor]:
    loss, g = closure()
    size = w.abs() + hyper["eta"]
    stretched = size * g
    norm = torch.linalg.vector_norm(stretched, dim=1, keepdim=True)
    before = w.clone()
    w.addcmul_(size.mul_(stretched), hyper["rho"] / (norm + 1e-12))
    _, g = closure(statistics=False)
    w.copy_(before)
    return loss, g


METHOD = Gradient(
    compute=asam_gradient,
    # rho .5 for CIFAR-10 and 1 for CIFAR-100 in the paper, eta .01 there throughout.
    ranges={
        "rho": Float(0.05, 5.0, log=True, default=0.5),
        "eta": Float(1e-3, 0.1, log=True, default=0.01),
    },
    passes=2,
    when="as sam, for networks without norms",
    source="arXiv:2102.11600",
)
