"""Small ResNet: pre-activation residual blocks in three stages, the image halved between stages.

    h = h + conv(act(norm(conv(act(norm(h))))))     `depth` blocks a stage, kernel x kernel
    channels width, 2*width, 4*width;  the shortcut is a 1x1 convolution where they change
    output = W dropout(mean of act(norm(h)) over the image) + b

act is the activation, none of those that gate. residual says how much of a branch is added
(`_shortcut.py`). The last convolution of a block starts at 0, so each block begins as the identity
and a large learning rate is safe from the first step. In training a sample passes by the branch of
block i of n with probability drop_path*i/(n - 1), i = 0 .. n - 1 (stochastic depth).
Source: He et al. 2016, arXiv:1603.05027; zero start: Goyal et al. 2017, arXiv:1706.02677;
stochastic depth: Huang et al. 2016, arXiv:1603.09382.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from automl.methods.architectures._shortcut import Shortcut
from automl.methods.stages import Architecture, Shape
from automl.registry import family
from automl.space.ranges import Choice, Float, Int


class ResnetBlock(nn.Module):
    """x + branch(x), in new channels and with a stride where asked."""

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        stride: int,
        kernel: int,
        activation: Callable[[int], nn.Module],
        norm: str,
        shortcut: Shortcut,
    ) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            resnet_norm(norm, channels),
            activation(1),
            nn.Conv2d(channels, out, kernel, padding=kernel // 2, stride=stride, bias=False),
            resnet_norm(norm, out),
            activation(1),
            nn.Conv2d(out, out, kernel, padding=kernel // 2, bias=False),
        )
        torch.nn.init.zeros_(self.branch[-1].weight)  # type: ignore[arg-type]
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride, bias=False)
        self.added = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.added(self.shortcut(x), self.branch(x))
        return out


def resnet_norm(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0) if norm == "group" else 1
    return nn.GroupNorm(groups, channels)


def resnet(
    shape: Shape,
    *,
    width: int,
    depth: int,
    kernel: int,
    activation: Callable[[int], nn.Module],
    norm: str,
    residual: str,
    dropout: float,
    drop_path: float,
) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(shape.features[0], width, 3, padding=1, bias=False)]
    channels = width
    for stage in range(3):
        for block in range(depth):
            out, stride = width * 2**stage, 2 if stage and not block else 1
            drop = drop_path * (stage * depth + block) / (3 * depth - 1)
            shortcut = Shortcut(out, residual=residual, branches=3 * depth, drop=drop, trailing=2)
            block_ = ResnetBlock(
                channels,
                out,
                stride=stride,
                kernel=kernel,
                activation=activation,
                norm=norm,
                shortcut=shortcut,
            )
            layers.append(block_)
            channels = out
    head = [resnet_norm(norm, channels), activation(1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Dropout(dropout), nn.Linear(channels, shape.outputs))


METHOD = Architecture(
    build=resnet,
    kinds=("image",),
    ranges={
        "width": Int(8, 64, log=True, default=16),
        "depth": Int(1, 3, default=1),
        "kernel": Choice([3, 5]),
        "activation": Choice(
            [n for n in family("activation").names() if n != "swiglu"], default="relu"
        ),
        "norm": Choice(["batch", "group", "layer"]),
        "residual": Choice(["plain", "depth", "layer_scale"]),
        "dropout": Float(0.0, 0.5, default=0.0),
        "drop_path": Float(0.0, 0.3, default=0.0),
    },
    parts={"activation": "activation"},
    when="photographs",
    source="arXiv:1603.05027",
)
