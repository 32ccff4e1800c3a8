"""M3: two momenta of different speeds, each made orthogonal (a "deep momentum" of nested learning).

    for each hidden matrix, u [r, c]; a kernel OIHW is O x IHW:
    m1 = b1*m1 + (1 - b1)*g                     every step
    v = b2*v + (1 - b2)*g^2
    sum = sum + g
    every period steps:  m2 = b3*m2 + (1 - b3)*sum/period,  o2 = NS(m2),  sum = 0
    u = (NS(m1) + alpha*o2) / (sqrt(v/(1 - b2^t)) + eps)
    w = w*(1 - lr*wd) - lr * u/rms(u)

    everything else takes AdamW's step with b1, b2, eps.

    NS: x = u/|u|_F, transposed if r > c; five times
        a = x x^T,  x = 3.4445*x + (-4.7750*a + 2.0315*a a) x

The paper's rule sums where this takes means, and leaves out 1/rms(u). As written there it
diverges: NS gives numbers of size 1, sqrt(v) is tiny. The means, the bias correction and the
division by the RMS are ours; with them every step has the size of lr, as AdamW's.
Source: Behrouz et al. 2025, arXiv:2512.24695, algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float, Int


def m3_init(w: Tensor, layout: Layout) -> State:
    return {name: torch.zeros_like(w) for name in ("m1", "m2", "v", "sum", "o2")}


def m3_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, b1, b2 = hyper["lr"], hyper["b1"], hyper["b2"]
    m1, m2, v, o2, total = (state[n] for n in ("m1", "m2", "v", "o2", "sum"))
    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    m1.lerp_(g, 1 - b1)
    total.add_(g)
    v.lerp_(g.square_(), 1 - b2)
    root = (1 - b2**t).sqrt()
    denominator = torch.sqrt(v, out=g).div_(root).add_(hyper["eps"])

    due = (t % hyper["period"] == 0).to(w.dtype)
    refresh = bool(due.any())
    if refresh:
        # Members whose turn it is not have due = 0, and keep what they had.
        m2.lerp_(total / hyper["period"], due * (1 - hyper["b3"]))
        total.mul_(1 - due)
    for slot in layout.slots:
        part = slice(slot.offset, slot.offset + slot.numel)
        own, scale = m1[:, part], denominator[:, part]
        if slot.role != "matrix":
            w[:, part].addcmul_(own / scale, -lr / (1 - b1**t))
            continue
        shape = (-1, slot.shape[0], slot.numel // slot.shape[0])
        if refresh:
            slow = _m3_orthogonal(m2[:, part].reshape(shape)).flatten(1)
            o2[:, part] = torch.where(due > 0, slow, o2[:, part])
        update = _m3_orthogonal(own.reshape(shape)).flatten(1)
        update = update.addcmul(o2[:, part], hyper["alpha"]).div_(scale)
        length = torch.linalg.vector_norm(update, dim=1, keepdim=True) / slot.numel**0.5
        w[:, part].addcmul_(update, -lr / length.clamp_min(1e-30))


def _m3_orthogonal(u: Tensor) -> Tensor:
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
    init=m3_init,
    step=m3_step,
    # Ours, from trials on a small problem; the paper gives no ranges.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=3e-3),
        "wd": Float(1e-4, 0.5, log=True, default=1e-2),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.9999, default=0.99),
        "b3": Float(0.8, 0.98, default=0.9),
        "alpha": Float(0.0, 1.0, default=0.5),
        "period": Int(2, 64, log=True, default=10),
        "eps": Float(1e-10, 1e-4, log=True, default=1e-8),
    },
    buffers=5,
    reference="",
    source="arXiv:2512.24695",
    evidence="four short trainings: mean rank 5.6 of 34 (docs/methods.md)",
)
