"""Causal convolution: of each channel a place sees itself and four before it; then channels mix.

    W2 gelu(depthwise conv of 5 places(W1 norm(h)))

Source: the short convolution of Gu and Dao 2023, arXiv:2312.00752, with 5 places for their 4.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.stages import Operation


class CausalConvOperation(nn.Module):
    """[b, t, width] -> the same."""

    def __init__(self, width: int, *, affine: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.enter = nn.Linear(width, width)
        self.places = nn.Conv1d(width, width, 5, groups=width)
        self.leave = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        x = F.pad(self.enter(self.norm(h)).transpose(1, 2), (4, 0))
        out: Tensor = self.leave(F.gelu(self.places(x).transpose(1, 2)))
        return out


def causal_conv_operation(width: int, *, affine: bool = True) -> nn.Module:
    return CausalConvOperation(width, affine=affine)


METHOD = Operation(make=causal_conv_operation, kinds=("tokens",), source="arXiv:2312.00752")
