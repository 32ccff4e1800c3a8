"""Gated dense: W2 (silu(u) v) + b, (u, v) = W1 batch norm(h) + b: each unit has a gate of its own.

Source: Shazeer 2020, arXiv:2002.05202.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.stages import Operation


class DenseGatedOperation(nn.Module):
    """[b, width] -> the same."""

    def __init__(self, width: int, *, affine: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=affine)
        self.enter = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        gate, value = self.enter(self.norm(h)).chunk(2, -1)
        out: Tensor = self.leave(F.silu(gate) * value)
        return out


def dense_gated_operation(width: int, *, affine: bool = True) -> nn.Module:
    return DenseGatedOperation(width, affine=affine)


METHOD = Operation(make=dense_gated_operation, kinds=("vector",), source="arXiv:2002.05202")
