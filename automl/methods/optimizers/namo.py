"""NAMO: Muon's direction with Adam's adaptation to noise, one rate a matrix.

    for each hidden matrix, [r, c]; a kernel OIHW is O x IHW:
    m = momentum*m + (1 - momentum)*g
    v = b2*v + (1 - b2)*|g|_F^2                         one number
    u = momentum*m + (1 - momentum)*g                   Nesterov's look ahead
    a = lr * sqrt(1 - b2^t)/(1 - momentum^t) * |u|_F/(sqrt(v) + eps)
    w = w*(1 - wd*min(a, 1))
    w = w - min(0.2*sqrt(max(r, c))*a, 1) * NS(u)

    everything else takes AdamW's step with b1 = .9 and .95 in b2's place; eps = 1e-8.

    NS: x = u/|u|_F, transposed if r > c; five times
        a = x x^T,  x = 3.4445*x + (-4.7750*a + 2.0315*a a) x

|u|/sqrt(v) falls where gradients disagree: the step shrinks with the noise. Under a constant
gradient a tends to lr, and the method is Muon of the same lr; good values lie 3 to 10 times higher.
No step is longer than 1 for each direction.
Source: Zhang, Liu, Schaeffer 2026, arXiv:2602.17080.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float

_NAMO_EPS = 1e-8
_NAMO_BETAS = (0.9, 0.95)  # of the AdamW side, as the authors'


def namo_init(w: Tensor, layout: Layout) -> State:
    return {"m": torch.zeros_like(w), "v": torch.zeros_like(w)}


def namo_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, mu, b2, wd = hyper["lr"], hyper["momentum"], hyper["b2"], hyper["wd"]
    m, v = state["m"], state["v"]
    correction = lr * (1 - b2**t).sqrt() / (1 - mu**t)
    for slot in layout.slots:
        part = slice(slot.offset, slot.offset + slot.numel)
        if slot.role != "matrix":
            decay = lr * wd if slot.offset < layout.decayed else torch.zeros_like(lr)
            _namo_adamw(w[:, part], g[:, part], m[:, part], v[:, part], lr, decay, t)
            continue
        r, c = slot.shape[0], slot.numel // slot.shape[0]
        gradient = g[:, part]
        ahead = m[:, part].lerp_(gradient, 1 - mu).lerp(gradient, 1 - mu).view(-1, r, c)
        # Of a matrix only the first place of v is used.
        noise = v[:, slot.offset : slot.offset + 1]
        noise.lerp_(gradient.square().sum(1, keepdim=True), 1 - b2)
        length = torch.linalg.vector_norm(ahead, dim=(1, 2)).unsqueeze(1)
        a = (length / noise.sqrt().add_(_NAMO_EPS) * correction).unsqueeze(2)
        own = w[:, part].view(-1, r, c)
        own.mul_(1 - wd.unsqueeze(2) * a.clamp_max(1))
        own.addcmul_(_namo_orthogonal(ahead), -(0.2 * max(r, c) ** 0.5 * a).clamp_max(1))


def _namo_adamw(
    w: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: Tensor, decay: Tensor, t: Tensor
) -> None:
    b1, b2 = _NAMO_BETAS
    m.lerp_(g, 1 - b1)
    v.lerp_(g.square(), 1 - b2)
    root = (1 - b2**t).sqrt()
    w.mul_(1 - decay)
    w.addcmul_(m / v.sqrt().add_(_NAMO_EPS * root), -lr * root / (1 - b1**t))


def _namo_orthogonal(u: Tensor) -> Tensor:
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
    init=namo_init,
    step=namo_step,
    # The authors' GPT-2 runs: lr .012, where Muon's was .0013; wd .1, momentum .95, b2 .99.
    ranges={
        "lr": Float(1e-4, 1.0, log=True, default=1e-2),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "momentum": Float(0.8, 0.98, default=0.95),
        "b2": Float(0.9, 0.999, default=0.99),
    },
    # v is hardly used by matrices; whole, it stays one buffer like all others.
    scaling="matrix",
    buffers=2,
    reference="",
    source="arXiv:2602.17080",
    evidence="four short trainings: mean rank 13.9 of 34 (docs/methods.md)",
)
