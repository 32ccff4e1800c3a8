"""SwiGLU: a gate beside each unit, f(u, v) = silu(u) v.

The layer below gives two numbers a unit, so its matrix is twice as large; `lanes` tells it so.
Source: Shazeer 2020, arXiv:2002.05202.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.stages import Activation


def swiglu(x: Tensor, dim: int) -> Tensor:
    """Half as large along `dim`: the first half of its entries opened by silu, times the rest."""
    gate, value = x.chunk(2, dim)
    return F.silu(gate) * value


class SwigluActivation(nn.Module):
    lanes = 2

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return swiglu(x, self.dim)


METHOD = Activation(make=SwigluActivation, source="arXiv:2002.05202")
