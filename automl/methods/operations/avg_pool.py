"""Mean: of each 3x3 pixels the mean value, then norm.

Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def avg_pool_operation(width: int, *, affine: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.BatchNorm2d(width, affine=affine)
    )


METHOD = Operation(make=avg_pool_operation, kinds=("image",), source="arXiv:1806.09055")
