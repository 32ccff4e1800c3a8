"""LookSAM: SAM in every fifth step; in between, what its gradient added is used again.

    in steps 1, 6, 11, ...
        g = dL/dw at w;  gs = dL/dw at w + rho*g/|g|
        gv = gs - (gs.g)/|g|^2 * g                  what of gs stands at right angles to g
        loss, gradient = L(w), gs
    in the others
        loss, gradient = L(w), g + alpha*|g|/|gv| * gv

gv changes far more slowly than g, so the flatness of SAM costs 1.2 passes in place of 2. The
projection is over all weights of a member at once. In a pack whose members stand at different
steps a pass that one of them needs is made for all.
Source: Liu et al. 2022, arXiv:2203.02714, with k = 5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Closure, Gradient, Hyper, Layout, State
from automl.space.ranges import Float

_LOOKSAM_EVERY = 5


def looksam_init(w: Tensor, layout: Layout) -> State:
    return {"gv": torch.zeros_like(w)}


def looksam_gradient(
    closure: Closure, w: Tensor, state: State, hyper: Hyper, t: Tensor
) -> tuple[Tensor, Tensor]:
    loss, g = closure()
    gv, looks = state["gv"], (t - 1) % _LOOKSAM_EVERY == 0
    length = torch.linalg.vector_norm(gv, dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(g, dim=1, keepdim=True)
    reused = g + hyper["alpha"] * norm / (length + 1e-12) * gv
    if not bool(looks.any()):
        return loss, reused
    first, before = g.clone(), w.clone()
    w.addcmul_(first, hyper["rho"] / (norm + 1e-12))
    _, g = closure(statistics=False)
    w.copy_(before)
    along = (first * g).sum(1, keepdim=True) / (norm.square() + 1e-24)
    gv.copy_(torch.where(looks, torch.addcmul(g, first, -along), gv))
    return loss, torch.where(looks, g, reused)


METHOD = Gradient(
    init=looksam_init,
    compute=looksam_gradient,
    # rho as SAM's; alpha .7 in the paper. Its k of 5 is fixed: the passes of a step belong to
    # what members of a pack share.
    ranges={
        "rho": Float(1e-2, 0.5, log=True, default=0.05),
        "alpha": Float(0.1, 1.0, default=0.7),
    },
    buffers=1,
    passes=1.2,
    when="as sam, at 1.2 passes in place of 2",
    source="arXiv:2203.02714",
)
