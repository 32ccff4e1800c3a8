"""Largest: of each 3x3 pixels the largest value, then norm.

Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def max_pool_operation(width: int, *, affine: bool = True) -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(width, affine=affine))


METHOD = Operation(make=max_pool_operation, kinds=("image",), source="arXiv:1806.09055")
