"""NSISA: SISA on orthogonal momenta, Muon's direction inside stochastic ADMM.

    for each hidden matrix, [r, c]; a kernel OIHW is O x IHW:
    b = momentum*b + g
    o = NS(g + momentum*b) * sqrt(max(1, r/c))
    c = o + pi                                  pi: the multiplier, starts at 0
    e = c / (ratio + |c| + 1e-8)
    pi = pi - ratio*e
    w = (w - lr*e + pi/sigma) / (1 + wd/sigma)  sigma = ratio/lr

    everything else takes AdamW's step with b1, b2 and the decay lr*wd/ratio of matrices.

    NS: x = u/|u|_F, transposed if r > c; five times
        a = x x^T,  x = 3.4445*x + (-4.7750*a + 2.0315*a a) x

As in SISA rho is 1/lr and sigma grows as a schedule lowers lr. e is nearly the sign of c, so every
weight moves by about lr. What the authors do with vectors was not seen: AdamW there is our choice.
Source: Wang, Zhou et al. 2025, arXiv:2502.10784.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float

_NSISA_EPS = 1e-8


def nsisa_init(w: Tensor, layout: Layout) -> State:
    return {name: torch.zeros_like(w) for name in ("pi", "m", "v")}


def nsisa_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, ratio, mu = hyper["lr"], hyper["ratio"], hyper["momentum"]
    b1, b2 = hyper["b1"], hyper["b2"]
    root = (1 - b2**t).sqrt()
    for slot in layout.slots:
        part = slice(slot.offset, slot.offset + slot.numel)
        own, gradient = w[:, part], g[:, part]
        pi, m, v = state["pi"][:, part], state["m"][:, part], state["v"][:, part]
        if slot.role == "matrix":
            m.mul_(mu).add_(gradient)
            r, c = slot.shape[0], slot.numel // slot.shape[0]
            ahead = torch.addcmul(gradient, m, mu).view(-1, r, c)
            force = _nsisa_orthogonal(ahead).flatten(1).mul_(max(1.0, r / c) ** 0.5).add_(pi)
            e = force.div_(force.abs().add_(ratio + _NSISA_EPS))
            pi.addcmul_(e, -ratio)
            own.addcmul_(e, -lr).addcmul_(pi, lr / ratio)
        else:
            m.lerp_(gradient, 1 - b1)
            v.lerp_(gradient.square(), 1 - b2)
            denominator = v.sqrt().add_(_NSISA_EPS * root)
            own.addcmul_(m / denominator, -lr * root / (1 - b1**t))
    w[:, : layout.decayed].div_(1 + hyper["wd"] * lr / ratio)


def _nsisa_orthogonal(u: Tensor) -> Tensor:
    """NS of each matrix in u [k, r, c]; in bfloat16 on CUDA, elsewhere in u's dtype."""
    tall = u.shape[1] > u.shape[2]
    x = u.mT if tall else u
    if u.is_cuda:
        x = x.to(torch.bfloat16)
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        a = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return (x.mT if tall else x).to(u.dtype)


METHOD = Optimizer(
    init=nsisa_init,
    step=nsisa_step,
    # The authors' GPT-2 runs: sigma 80, rho 100 (ratio .8, lr .01), another 2.5e-3 and 5e4.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=3e-3),
        "ratio": Float(1e-3, 1.0, log=True, default=0.1),
        "wd": Float(1e-6, 1e-1, log=True, default=1e-3),
        "momentum": Float(0.8, 0.98, default=0.95),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.999, default=0.95),
    },
    # pi and m of hidden matrices, m and v of the rest; whole, they stay buffers like all others.
    buffers=3,
    reference="",
    source="arXiv:2502.10784",
    evidence="four short trainings: mean rank 6.2 of 34 (docs/methods.md)",
)
