"""Highway with ReLU: s + sigmoid(c)*(relu(u) - s), (c, u) = W s + b: a gate says how much.

Source: Zilly et al. 2017, arXiv:1607.03474; Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from torch import Tensor, nn

from automl.methods.stages import Operation


class HighwayReLUOperation(nn.Module):
    """[b, width] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * width)

    def forward(self, s: Tensor) -> Tensor:
        gate, value = self.both(s).chunk(2, -1)
        out: Tensor = s + gate.sigmoid() * (value.relu() - s)
        return out


def highway_relu_operation(width: int, *, affine: bool = True) -> nn.Module:
    return HighwayReLUOperation(width)


METHOD = Operation(make=highway_relu_operation, kinds=("tokens",), source="arXiv:1607.03474")
