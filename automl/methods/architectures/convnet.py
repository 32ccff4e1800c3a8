"""Convnet: blocks of convolution, norm and activation, the image halved between them.

    h = pooling(activation(norm(conv(h)))),  `depth` times
    channels width, 2*width, 4*width, 4*width
    output = W dropout(mean of h over the image) + b

Convolutions are kernel x kernel. pooling "stride" halves by the convolution's own stride, "max" and
"avg" over 2x2 pixels. Halving stops at 2x2 pixels, so it suits images from 8x8 upwards. Small and
fast on a CPU. norm "group" takes 8 groups of channels, "layer" one group of all.
Source: LeCun et al. 1998, doi:10.1109/5.726791; batch norm: arXiv:1502.03167.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from automl.methods.stages import Architecture, Shape
from automl.registry import family
from automl.space.ranges import Choice, Float, Int


def convnet(
    shape: Shape,
    *,
    width: int,
    depth: int,
    kernel: int,
    activation: Callable[[int], nn.Module],
    norm: str,
    pooling: str,
    dropout: float,
) -> nn.Module:
    lanes = getattr(activation, "lanes", 1)  # numbers that it takes for each that it gives
    channels, side, _ = shape.features
    layers: list[nn.Module] = []
    for block in range(depth):
        out = width * 2 ** min(block, 2)
        wide, halved = lanes * out, side >= 4
        stride = 2 if halved and pooling == "stride" else 1
        bias = norm == "none"
        layers.append(nn.Conv2d(channels, wide, kernel, stride, padding=kernel // 2, bias=bias))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(wide))
        elif norm != "none":
            layers.append(nn.GroupNorm(convnet_groups(wide) if norm == "group" else 1, wide))
        layers.append(activation(1))
        if halved and pooling != "stride":
            layers.append(nn.AvgPool2d(2) if pooling == "avg" else nn.MaxPool2d(2))
        side = side // 2 if halved else side
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
        "kernel": Choice([3, 5]),
        "activation": Choice(list(family("activation").names()), default="relu"),
        "norm": Choice(["batch", "group", "layer", "none"]),
        "pooling": Choice(["max", "avg", "stride"]),
        "dropout": Float(0.0, 0.5, default=0.0),
    },
    parts={"activation": "activation"},
    year=1998,
    when="small images on a CPU",
    source="doi:10.1109/5.726791",
)
