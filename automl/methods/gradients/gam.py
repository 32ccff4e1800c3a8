"""GAM: seek places where the gradient stays short all around, not only the loss low.

    g0 = dL/dw at w                             ^ divides a vector by its length
    g1 = dL/dw at w + rho*g0^                   g1 - g0 points where the gradient grows
    e  = rho_norm*(g1 - g0)^
    g2 = dL/dw at w + e
    g3 = dL/dw at w + e + rho*g2^
    p  = g0 + |1 - beta0|*g2;   n = beta1*g1 + (1 - beta1)*g3
    loss, gradient = L(w), n - gamma*(p - (p.n)/|n|^2 * n)

This is the accelerated form of the authors' code, by differences; the exact one needs two
products with the Hessian. Four passes a step: it must earn them against four plain steps. On a
network of ReLUs its differences are coarse (see gradient_norm_penalty).
Source: Zhang et al. 2023, arXiv:2303.03108.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Closure, Gradient, Hyper, State
from automl.space.ranges import Float


def gam_gradient(
    closure: Closure, w: Tensor, state: State, hyper: Hyper, t: Tensor
) -> tuple[Tensor, Tensor]:
    rho, before = hyper["rho"], w.clone()
    loss, g = closure()
    g0 = g.clone()
    w.addcmul_(g0, rho * _gam_inverse_length(g0))
    g1 = closure(statistics=False)[1].clone()
    growth = g1 - g0
    w.copy_(before).addcmul_(growth, hyper["rho_norm"] * _gam_inverse_length(growth))
    g2 = closure(statistics=False)[1].clone()
    w.addcmul_(g2, rho * _gam_inverse_length(g2))
    _, g3 = closure(statistics=False)
    w.copy_(before)
    p = g0.addcmul_(g2, (1 - hyper["beta0"]).abs())
    n = torch.lerp(g3, g1, hyper["beta1"])
    along = (p * n).sum(1, keepdim=True) * _gam_inverse_length(n).square()
    return loss, n - hyper["gamma"] * (p - along * n)


def _gam_inverse_length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return length.add_(1e-12).reciprocal_()


METHOD = Gradient(
    compute=gam_gradient,
    # The authors' settings for CIFAR lie inside: rho .02 to .04, rho_norm .2, beta0 and beta1 .1
    # to .6, gamma .03 to .05.
    ranges={
        "rho": Float(5e-3, 0.2, log=True, default=0.02),
        "rho_norm": Float(0.02, 0.5, log=True, default=0.2),
        "beta0": Float(0.0, 1.0, default=0.5),
        "beta1": Float(0.0, 1.0, default=0.3),
        "gamma": Float(1e-3, 0.2, log=True, default=0.03),
    },
    passes=4,
    when="as sam, when four passes are no matter",
    source="arXiv:2303.03108",
)
