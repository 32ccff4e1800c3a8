"""Table cells: residual dense cells whose six edges are operations of their own.

    h0 = W x + b, `width` wide;  in each of `cells` cells
    h1 = e01(h0);   h2 = e02(h0) + e12(h1);   h3 = e03(h0) + e13(h1) + e23(h2)
    h0 = h0 + dropout((h1 + h2 + h3)/3)
    output = W relu(layer norm(h0)) + b

An edge is a dense layer (with ReLU, GELU, a layer norm, or a gate), a skip or none. The shortcut
around each cell keeps a poor one harmless.
Source: residual dense blocks for tables: Gorishniy et al. 2021, arXiv:2106.11959; the search of
their edges is ours, after Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from automl.methods.architectures._by_name import by_name
from automl.methods.stages import Architecture, CellSpace, Shape
from automl.space.ranges import Choice, Float, Int

TABLE_CELLS_EDGES = ("e01", "e02", "e12", "e03", "e13", "e23")


class TableCellsCell(nn.Module):
    """[b, width] -> the same."""

    def __init__(self, edges: dict[str, nn.Module], *, dropout: float) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(edges)
        self.drop = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        states: list[Tensor] = [h]
        for node in (1, 2, 3):
            total: Tensor = self.edges[f"e0{node}"](states[0])
            for source in range(1, node):
                total = total + self.edges[f"e{source}{node}"](states[source])
            states.append(total)
        out: Tensor = h + self.drop((states[1] + states[2] + states[3]) / 3)
        return out


def table_cells_network(
    shape: Shape,
    place: Callable[[str, Callable[..., nn.Module]], nn.Module],
    *,
    width: int,
    cells: int,
    dropout: float,
) -> nn.Module:
    """Entrance, cells and head; what stands on an edge is `place`'s affair."""

    def make(
        operation: Callable[..., nn.Module], *, affine: bool = True, parts: int = 1
    ) -> nn.Module:
        return operation(width // parts, affine=affine)

    made = [
        TableCellsCell({edge: place(edge, make) for edge in TABLE_CELLS_EDGES}, dropout=dropout)
        for _ in range(cells)
    ]
    head = [nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, shape.outputs)]
    return nn.Sequential(nn.Linear(shape.features[0], width), *made, *head)


def table_cells(
    shape: Shape, *, width: int, cells: int, dropout: float, **edges: Callable[..., nn.Module]
) -> nn.Module:
    return table_cells_network(
        shape, lambda e, make: make(edges[e]), width=width, cells=cells, dropout=dropout
    )


_OPERATIONS = ("none", "skip", "dense_relu", "dense_gelu", "dense_layer", "dense_gated")

METHOD = Architecture(
    build=table_cells,
    kinds=("vector",),
    ranges={
        "width": Int(16, 256, log=True, default=64),
        "cells": Int(1, 3, default=1),
        "dropout": Float(0.0, 0.5, default=0.0),
        **{edge: Choice(list(_OPERATIONS), default="dense_relu") for edge in TABLE_CELLS_EDGES},
    },
    parts=dict.fromkeys(TABLE_CELLS_EDGES, "operation"),
    cells=CellSpace(
        build=by_name(table_cells_network),
        nodes={"h1": ("e01",), "h2": ("e02", "e12"), "h3": ("e03", "e13", "e23")},
    ),
    when="tables, with cells found by an architecture search",
    source="arXiv:2106.11959",
)
