"""Conv3: norm(conv3x3(relu(x))).

Source: Dong and Yang 2020, arXiv:2001.00326.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def conv3_operation(width: int, *, affine: bool = True) -> nn.Module:
    convolution = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(width, affine=affine))


METHOD = Operation(make=conv3_operation, kinds=("image",), source="arXiv:2001.00326")
