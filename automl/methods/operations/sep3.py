"""Sep3: twice norm(conv1x1(depthwise 3x3(relu(x)))), few weights for a wide view.

Source: Liu et al. 2019, arXiv:1806.09055; separable convolution: Chollet 2017, arXiv:1610.02357.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def sep3_operation(width: int, *, affine: bool = True) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width, affine=affine),
        ]
    return nn.Sequential(*layers)


METHOD = Operation(make=sep3_operation, kinds=("image",), source="arXiv:1806.09055")
