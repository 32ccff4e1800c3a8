"""Muon: the momentum of each hidden matrix, made orthogonal; AdamW for everything else.

    m = mu*m + (1 - mu)*g;  u = mu*m + (1 - mu)*g       Nesterov's look ahead, mu = momentum
    o = NS(u)                                           all singular values near 1
    w = w*(1 - lr*wd) - lr * 0.2*sqrt(max(r, c)) * o    u is [r, c]; a kernel OIHW is O x IHW

    NS: x = u/|u|_F, transposed if r > c; five times
        a = x x^T,  x = 3.4445*x + (-4.7750*a + 2.0315*a a) x

The singular values end in about [.7, 1.2], not at 1: that is wanted, it costs five products only.
The factor 0.2*sqrt(max(r, c)) gives the update AdamW's usual size, so one lr and one wd serve both
sides. Biases, norms, embeddings and the output layer take AdamW's step with b1 and b2.
NS runs in bfloat16 on CUDA; elsewhere in the weights' own precision (bfloat16 gains little on a
CPU and loses 1e-2). Matrices of one shape, of all members, are one batched product.
Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, Slot, State
from automl.space.ranges import Float

_MUON_EPS = 1e-8  # of the AdamW side


def muon_init(w: Tensor, layout: Layout) -> State:
    return {"m": torch.zeros_like(w), "v": torch.zeros_like(w)}


def muon_step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
    lr, mu, b1, b2 = hyper["lr"], hyper["momentum"], hyper["b1"], hyper["b2"]
    m, v = state["m"], state["v"]
    w[:, : layout.decayed].mul_(1 - lr * hyper["wd"])
    hidden = [slot for slot in layout.slots if slot.role == "matrix"]
    others = [slot for slot in layout.slots if slot.role != "matrix"]
    root = (1 - b2**t).sqrt()
    slow, fast, eps, rate = 1 - b1, 1 - b2, _MUON_EPS * root, -lr * root / (1 - b1**t)
    for part in _muon_runs(others):
        v[:, part].lerp_(g[:, part].square(), fast)
        denominator = v[:, part].sqrt().add_(eps)
        w[:, part].addcmul_(m[:, part].lerp_(g[:, part], slow) / denominator, rate)
    for part in _muon_runs(hidden):
        g[:, part].lerp_(m[:, part].lerp_(g[:, part], 1 - mu), mu)
    shapes: dict[tuple[int, int], list[Slot]] = {}
    for slot in hidden:
        shapes.setdefault((slot.shape[0], slot.numel // slot.shape[0]), []).append(slot)
    for (r, c), slots in shapes.items():
        u = [g[:, s.offset : s.offset + s.numel].view(-1, r, c) for s in slots]
        orthogonal = _muon_orthogonal(torch.cat(u)).flatten(1).chunk(len(slots))
        rate = -0.2 * max(r, c) ** 0.5 * lr
        for slot, update in zip(slots, orthogonal, strict=True):
            w[:, slot.offset : slot.offset + slot.numel].addcmul_(update, rate)


def _muon_runs(slots: Sequence[Slot]) -> list[slice]:
    """The places of these slots, those that lie side by side as one."""
    runs: list[slice] = []
    for slot in slots:
        first, stop = slot.offset, slot.offset + slot.numel
        if runs and runs[-1].stop == first:
            first = runs.pop().start
        runs.append(slice(first, stop))
    return runs


def _muon_orthogonal(u: Tensor) -> Tensor:
    """NS of each matrix in u [n, r, c], in u's dtype."""
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
    init=muon_init,
    step=muon_step,
    # wd multiplies lr, as AdamW's does. b1 and b2 serve the few weights that are no hidden matrix;
    # .95 of Muon's own language models, .999 of everyone else's AdamW.
    ranges={
        "lr": Float(1e-5, 1e-1, log=True, default=3e-3),
        "wd": Float(1e-3, 0.5, log=True, default=1e-2),
        "momentum": Float(0.8, 0.98, default=0.95),
        "b1": Float(0.8, 0.98, default=0.9),
        "b2": Float(0.9, 0.999, default=0.95),
    },
    scaling="matrix",
    # v is used outside of hidden matrices only; whole, it stays one buffer like all others.
    buffers=2,
    reference="torch.optim.Muon",
    when="hidden matrices: transformers, residual networks, MLPs",
    source="arXiv:2502.16982",
    evidence="four short trainings: mean rank 11.6 of 34 (docs/methods.md)",
)
