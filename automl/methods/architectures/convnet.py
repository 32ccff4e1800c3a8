"""Convnet: blocks of 3x3 convolution, norm and ReLU, the image halved between them.

    h = maxpool(relu(norm(conv3x3(h)))),  `depth` times;  channels width, 2*width, 4*width, 4*width
    output = W dropout(mean of h over the image) + b

Halving stops at 2x2 pixels, so it suits images from 8x8 upwards. Small and fast on a CPU. norm
"group" takes 8 groups of channels, "layer" one group of all.
Source: LeCun et al. 1998, doi:10.1109/5.726791; batch norm: arXiv:1502.03167.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Architecture, Shape
from automl.space.ranges import Choice, Float, Int


def convnet(shape: Shape, *, width: int, depth: int, norm: str, dropout: float) -> nn.Module:
    channels, side, _ = shape.features
    layers: list[nn.Module] = []
    for block in range(depth):
        out = width * 2 ** min(block, 2)
        layers.append(nn.Conv2d(channels, out, 3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(out))
        elif norm != "none":
            layers.append(nn.GroupNorm(convnet_groups(out) if norm == "group" else 1, out))
        layers.append(nn.ReLU())
        if side >= 4:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        channels = out
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, *head, nn.Linear(channels, shape.outputs))


def convnet_groups(channels: int) -> int:
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)


METHOD = Architecture(
    build=convnet,
    kinds=("image",),
    ranges={
        "width": Int(8, 64, log=True, default=16),
        "depth": Int(2, 4, default=3),
        "norm": Choice(["batch", "group", "layer", "none"]),
        "dropout": Float(0.0, 0.5, default=0.0),
    },
    year=1998,
    when="small images on a CPU",
    source="doi:10.1109/5.726791",
)
