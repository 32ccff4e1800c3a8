"""Dil3: norm(conv1x1(depthwise 3x3 with gaps of one(relu(x)))): sees 5x5 with 9 weights.

Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def dil3_operation(width: int, *, affine: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width, affine=affine),
    )


METHOD = Operation(make=dil3_operation, kinds=("image",), source="arXiv:1806.09055")
