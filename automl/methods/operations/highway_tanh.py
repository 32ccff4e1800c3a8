"""Highway with tanh: s + sigmoid(c)*(tanh(u) - s), (c, u) = W s + b: a gate says how much.

Source: Zilly et al. 2017, arXiv:1607.03474; Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from torch import Tensor, nn

from automl.methods.stages import Operation


class HighwayTanhOperation(nn.Module):
    """[b, width] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * width)

    def forward(self, s: Tensor) -> Tensor:
        gate, value = self.both(s).chunk(2, -1)
        out: Tensor = s + gate.sigmoid() * (value.tanh() - s)
        return out


def highway_tanh_operation(width: int, *, affine: bool = True) -> nn.Module:
    return HighwayTanhOperation(width)


METHOD = Operation(make=highway_tanh_operation, kinds=("tokens",), source="arXiv:1607.03474")
