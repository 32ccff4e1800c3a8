"""Skip: the input as it is.

Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def skip_operation(width: int, *, affine: bool = True) -> nn.Module:
    return nn.Identity()


METHOD = Operation(
    make=skip_operation, kinds=("image", "tokens", "vector"), source="arXiv:1806.09055"
)
