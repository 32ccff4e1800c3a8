"""None: zeros, so that the edge is not there; the input still gets a gradient, of 0.

Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from torch import Tensor, nn

from automl.methods.stages import Operation


class NoneOperation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def none_operation(width: int, *, affine: bool = True) -> nn.Module:
    return NoneOperation()


METHOD = Operation(
    make=none_operation, kinds=("image", "tokens", "vector"), source="arXiv:1806.09055"
)
