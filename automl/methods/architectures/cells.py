"""Cells: small graphs of operations for images, each edge with an operation of its own.

    h0 = conv1x1(relu(x)), `width` channels
    h1 = e01(h0);   h2 = e02(h0) + e12(h1);   h3 = e03(h0) + e13(h1) + e23(h2)
    cell = [h1, h2, h3]
    each edge: none, skip, conv1, conv3 (relu, convolution, norm) or avgpool (3x3, then norm)
    output = W dropout(mean of relu(norm(cell)) over the image) + b

`cells` such cells follow each other, all with the same six operations, the image halved between
them while it has 4 pixels or more a side. The edges are ordinary choices: any sampler can search
them, and what a weight-sharing search derives is a recipe like any other.
Source: Liu et al. 2019, arXiv:1806.09055; the cell here has one input and three nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl.methods.stages import Architecture, CellSpace, Place, Shape
from automl.space.ranges import Choice, Float, Int

CELLS_EDGES = ("e01", "e02", "e12", "e03", "e13", "e23")
CELLS_OPERATIONS = ("none", "skip", "conv1", "conv3", "avgpool")


class CellsZero(nn.Module):
    """Zeros of the input's shape; the input still gets a gradient, of 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def cells_operation(name: str, width: int, *, affine: bool = True) -> nn.Module:
    """The operation `name` from `width` to `width` channels.

    affine: whether its norm scales and shifts; in a mixture that would undo the mixture's weights.
    """
    if name == "none":
        return CellsZero()
    if name == "skip":
        return nn.Identity()
    norm = nn.BatchNorm2d(width, affine=affine)
    if name == "avgpool":
        return nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), norm)
    size = {"conv1": 1, "conv3": 3}[name]
    convolution = nn.Conv2d(width, width, size, padding=size // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, norm)


class CellsCell(nn.Module):
    """[b, channels, h, w] -> [b, 3*width, h, w]; `edges` are the modules on its six edges."""

    def __init__(self, channels: int, width: int, edges: dict[str, nn.Module]) -> None:
        super().__init__()
        enter = nn.Conv2d(channels, width, 1, bias=False)
        self.enter = nn.Sequential(nn.ReLU(), enter, nn.BatchNorm2d(width))
        self.edges = nn.ModuleDict(edges)

    def forward(self, x: Tensor) -> Tensor:
        states: list[Tensor] = [self.enter(x)]
        for node in (1, 2, 3):
            total: Tensor = self.edges[f"e0{node}"](states[0])
            for before in range(1, node):
                total = total + self.edges[f"e{before}{node}"](states[before])
            states.append(total)
        return torch.cat(states[1:], dim=1)


def cells_network(
    shape: Shape, place: Place, *, width: int, cells: int, dropout: float
) -> nn.Module:
    """Stem, `cells` cells and head; what stands on an edge is `place`'s affair."""

    def make(name: str, *, affine: bool = True, parts: int = 1) -> nn.Module:
        return cells_operation(name, width // parts, affine=affine)

    edges = [{edge: place(edge, make) for edge in CELLS_EDGES} for _ in range(cells)]
    channels, side = shape.features[0], min(shape.features[1:])
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    ]
    channels = width
    for number, modules in enumerate(edges):
        if number and side >= 4:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers.append(CellsCell(channels, width, modules))
        channels = 3 * width
    head = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Dropout(dropout), nn.Linear(channels, shape.outputs))


def cells(shape: Shape, *, width: int, cells: int, dropout: float, **edges: str) -> nn.Module:
    return cells_network(
        shape, lambda e, make: make(edges[e]), width=width, cells=cells, dropout=dropout
    )


METHOD = Architecture(
    build=cells,
    kinds=("image",),
    ranges={
        "width": Int(4, 32, log=True, default=8),
        "cells": Int(1, 4, default=2),
        "dropout": Float(0.0, 0.5, default=0.0),
        **{name: Choice(list(CELLS_OPERATIONS), default="conv3") for name in CELLS_EDGES},
    },
    cells=CellSpace(
        build=cells_network,
        nodes={"h1": ("e01",), "h2": ("e02", "e12"), "h3": ("e03", "e13", "e23")},
    ),
    when="cells found by an architecture search",
    source="arXiv:1806.09055",
)
