"""Adafactor: Adam without momentum, its second moment kept as row and column means.

    b = t^-decay                                    what is new: all at t = 1, less and less
    R = (1 - b)*R + b*mean of g^2 over columns      [rows];  C likewise [columns]
    V = R C^T / mean(R)                             for a matrix; a vector keeps its own V
    u = g / sqrt(V)
    u = u / max(1, rms(u))                          an update longer than 1 is cut
    a = min(lr, 1/sqrt(t)) * max(1e-3, rms(w))      rms(w) before the decay
    w = w - lr*wd*w - a*u                           decay on matrices only

rows + columns numbers in place of rows*columns: the state is a few percent of the weights. The
step is relative to the size of each tensor, so lr is a relative rate, about ten times AdamW's.
A kernel OIHW counts as a matrix O x IHW; torch's factors its last two axes, which for 3x3 kernels
saves little.
Source: Shazeer and Stern 2018, arXiv:1804.04235; torch.optim.Adafactor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Layout, Optimizer, State
from automl.space.ranges import Float

_ADAFACTOR_LEAST = 1e-3  # size of a tensor that counts at least, so that zeros can grow


def adafactor_init(w: Tensor, layout: Layout) -> State:
    rows = sum(s.shape[0] for s in layout.slots if len(s.shape) > 1)
    columns = sum(s.numel // s.shape[0] if len(s.shape) > 1 else s.numel for s in layout.slots)
    return {"rows": w.new_zeros(len(w), rows), "columns": w.new_zeros(len(w), columns)}


def adafactor_step(
    w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout
) -> None:
    lr, new = hyper["lr"], t ** -hyper["decay"]
    least = torch.finfo(g.dtype).eps ** 2
    limit = torch.minimum(lr, t.rsqrt())
    r = c = 0
    for slot in layout.slots:
        part = slice(slot.offset, slot.offset + slot.numel)
        update, own = g[:, part], w[:, part]
        size = _adafactor_rms(own).clamp_min(_ADAFACTOR_LEAST)
        if len(slot.shape) > 1:
            shape = (slot.shape[0], slot.numel // slot.shape[0])
            rows, columns = (
                state["rows"][:, r : r + shape[0]],
                state["columns"][:, c : c + shape[1]],
            )
            r, c = r + shape[0], c + shape[1]
            square = update.square().view(-1, *shape)
            rows.lerp_(square.mean(2), new)
            columns.lerp_(square.mean(1), new)
            mean = rows.mean(1, keepdim=True).clamp_min(least**0.5)
            v = torch.mul((rows / mean).unsqueeze(2), columns.unsqueeze(1), out=square).flatten(1)
            own.mul_(1 - lr * hyper["wd"])
        else:
            columns = state["columns"][:, c : c + slot.numel]
            c += slot.numel
            v = columns.lerp_(update.square(), new).clone()
        update.mul_(v.clamp_min_(least).rsqrt_())
        own.addcmul_(update, -limit * size / _adafactor_rms(update).clamp_min(1))


def _adafactor_rms(x: Tensor) -> Tensor:
    """Root of the mean square of each member's x [k, n], as [k, 1]."""
    return torch.linalg.vector_norm(x, dim=1, keepdim=True) / x.shape[1] ** 0.5  # type: ignore[no-any-return]


METHOD = Optimizer(
    init=adafactor_init,
    step=adafactor_step,
    # lr 1e-2 and decay .8 as in the paper.
    ranges={
        "lr": Float(1e-4, 1.0, log=True, default=1e-2),
        "wd": Float(1e-4, 0.5, log=True, default=1e-3),
        "decay": Float(0.5, 1.0, default=0.8),
    },
    # (rows + columns)/(rows*columns) of the weights; this is that of a network 16-32-32-4.
    scaling="own",
    buffers=0.125,
    reference="torch.optim.Adafactor",
    source="arXiv:1804.04235",
    when="memory is short",
    evidence="four short trainings: mean rank 24.2 of 34 (docs/methods.md)",
)
