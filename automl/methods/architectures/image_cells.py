"""Image cells: normal and reduction cells, each edge with an operation of its own.

    x0, x1 = outputs of the two cells before, by relu, conv1x1 and norm brought to `width` channels
    x2 = e02(x0) + e12(x1);   x3 = e03(x0) + e13(x1) + e23(x2);   x4 = e04(x0) + ... + e34(x3)
    cell = [x2, x3, x4];   output = W dropout(mean of relu(norm(cell)) over the image) + b

Normal cells have the operations normal_02, normal_12, normal_03, normal_13, normal_23, normal_04,
normal_14, normal_24, normal_34, reduction cells reduction_02, reduction_12, reduction_03,
reduction_13, reduction_23, reduction_04, reduction_14, reduction_24, reduction_34. Of all `cells`
those a third and two thirds on are reduction cells: they halve the image and double the channels.

Unlike the paper's they halve it as it enters, by averages of 2x2 pixels, not in the operations; and
there are three nodes, not four, each summing all its edges: "none" is what leaves one out.
Source: Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.architectures._by_name import by_name
from automl.methods.stages import Architecture, CellSpace, Shape
from automl.space.ranges import Choice, Float, Int

IMAGE_CELLS_EDGES = ("02", "12", "03", "13", "23", "04", "14", "24", "34")


class ImageCellsCell(nn.Module):
    """Two images [b, channels, h, w] -> [b, 3*width, h, w]; half the size if it `halves`."""

    def __init__(
        self, channels: tuple[int, int], width: int, edges: dict[str, nn.Module], *, halves: bool
    ) -> None:
        super().__init__()
        self.halves = halves
        self.enter = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width))
            for c in channels
        )
        self.edges = nn.ModuleDict(edges)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        if self.halves:
            last = F.avg_pool2d(last, 2)
        if before.shape[-1] != last.shape[-1]:
            before = F.adaptive_avg_pool2d(before, (last.shape[-2], last.shape[-1]))
        states = [enter(x) for enter, x in zip(self.enter, (before, last), strict=True)]
        for node in (2, 3, 4):
            total: Tensor = self.edges[f"0{node}"](states[0])
            for source in range(1, node):
                total = total + self.edges[f"{source}{node}"](states[source])
            states.append(total)
        return torch.cat(states[2:], dim=1)


class ImageCellsModel(nn.Module):
    """Images [b, c, h, w] -> [b, outputs]."""

    def __init__(self, stem: nn.Module, cells: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.cells, self.head = stem, nn.ModuleList(cells), head

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        out: Tensor = self.head(last)
        return out


def image_cells_network(
    shape: Shape,
    place: Callable[[str, Callable[..., nn.Module]], nn.Module],
    *,
    width: int,
    cells: int,
    dropout: float,
) -> nn.Module:
    """Stem, cells and head; what stands on an edge is `place`'s affair."""
    channels, side = (width, width), min(shape.features[1:])
    stem = nn.Sequential(
        nn.Conv2d(shape.features[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
    )
    made: list[nn.Module] = []
    for number in range(cells):
        halves = number in (cells // 3, 2 * cells // 3) and number > 0 and side >= 4
        kind = "reduction" if halves else "normal"
        if halves:
            width, side = 2 * width, side // 2

        def make(
            operation: Callable[..., nn.Module],
            *,
            affine: bool = True,
            parts: int = 1,
            width: int = width,
        ) -> nn.Module:
            return operation(width // parts, affine=affine)

        edges = {e: place(f"{kind}_{e}", make) for e in IMAGE_CELLS_EDGES}
        made.append(ImageCellsCell(channels, width, edges, halves=halves))
        channels = (channels[1], 3 * width)
    pooled = [nn.BatchNorm2d(channels[1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = nn.Sequential(*pooled, nn.Dropout(dropout), nn.Linear(channels[1], shape.outputs))
    return ImageCellsModel(stem, made, head)


def image_cells(
    shape: Shape, *, width: int, cells: int, dropout: float, **edges: Callable[..., nn.Module]
) -> nn.Module:
    return image_cells_network(
        shape, lambda e, make: make(edges[e]), width=width, cells=cells, dropout=dropout
    )


_OPERATIONS = (
    "none", "skip", "max_pool", "avg_pool", "conv1", "conv3", "sep3", "sep5", "dil3",
)  # fmt: skip
_NODES: Mapping[str, tuple[str, ...]] = {
    f"{kind}_x{node}": tuple(f"{kind}_{e}" for e in IMAGE_CELLS_EDGES if e[1] == str(node))
    for kind in ("normal", "reduction")
    for node in (2, 3, 4)
}
_EDGES = [edge for edges in _NODES.values() for edge in edges]

METHOD = Architecture(
    build=image_cells,
    kinds=("image",),
    ranges={
        "width": Int(4, 32, log=True, default=8),
        "cells": Int(2, 6, default=3),
        "dropout": Float(0.0, 0.5, default=0.0),
        **{edge: Choice(list(_OPERATIONS), default="sep3") for edge in _EDGES},
    },
    parts=dict.fromkeys(_EDGES, "operation"),
    cells=CellSpace(build=by_name(image_cells_network), nodes=_NODES),
    when="cells for photographs, found by an architecture search",
    source="arXiv:1806.09055",
)
