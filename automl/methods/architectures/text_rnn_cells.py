"""Recurrent cells: a causal language model of one recurrence, whose inside is found.

    s0 = h + sigmoid(c)*(tanh(u) - h),  (c, u) = W [x_t, h] + b         x_t = E[token]
    s1 = e01(s0);   s2 = (e02(s0) + e12(s1))/2;   s3 = (e03(s0) + e13(s1) + e23(s2))/3
    h  = (s1 + s2 + s3)/3                                               the next place's state
    output = W dropout(h) + b

An edge is a highway layer with tanh, ReLU or sigmoid, a skip or none; all places share the cell,
`width` wide. Unlike the paper's, a node takes all its edges, not the one that is strongest, and the
cell has three nodes, not eight. It walks from place to place in Python, each place costs every
edge: on a CPU an update of it takes many times one of `text_cells`. The default is one highway
after the other.
Source: Liu et al. 2019, arXiv:1806.09055 (the recurrent cell); Zilly et al. 2017, arXiv:1607.03474
(recurrent highways).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from automl.methods.architectures._by_name import by_name
from automl.methods.stages import Architecture, CellSpace, Shape
from automl.space.ranges import Choice, Float

TEXT_RNN_CELLS_EDGES = ("e01", "e02", "e12", "e03", "e13", "e23")


class TextRnnCellsCell(nn.Module):
    """(x, h), each [b, width] -> the next h."""

    def __init__(self, width: int, edges: dict[str, nn.Module]) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * width, 2 * width)
        self.edges = nn.ModuleDict(edges)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        gate, value = self.enter(torch.cat([x, h], -1)).chunk(2, -1)
        states: list[Tensor] = [h + gate.sigmoid() * (value.tanh() - h)]
        for node in (1, 2, 3):
            total: Tensor = self.edges[f"e0{node}"](states[0])
            for source in range(1, node):
                total = total + self.edges[f"e{source}{node}"](states[source])
            states.append(total / node)
        return (states[1] + states[2] + states[3]) / 3


class TextRnnCellsModel(nn.Module):
    """Tokens [b, t] int64 -> logits of the next token [b, t, vocabulary]."""

    def __init__(self, shape: Shape, cell: nn.Module, *, width: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(shape.vocabulary, width)
        self.cell = cell
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, shape.outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens)
        h = torch.zeros_like(x[:, 0])
        states = []
        for place in range(x.shape[1]):
            h = self.cell(x[:, place], h)
            states.append(h)
        logits: Tensor = self.head(self.drop(torch.stack(states, 1)))
        return logits


def text_rnn_cells_network(
    shape: Shape,
    place: Callable[[str, Callable[..., nn.Module]], nn.Module],
    *,
    width: int,
    dropout: float,
) -> nn.Module:
    """Embedding, cell and head; what stands on an edge is `place`'s affair."""

    def make(
        operation: Callable[..., nn.Module], *, affine: bool = True, parts: int = 1
    ) -> nn.Module:
        return operation(width // parts, affine=affine)

    edges = {edge: place(edge, make) for edge in TEXT_RNN_CELLS_EDGES}
    return TextRnnCellsModel(shape, TextRnnCellsCell(width, edges), width=width, dropout=dropout)


def text_rnn_cells(
    shape: Shape, *, width: int, dropout: float, **edges: Callable[..., nn.Module]
) -> nn.Module:
    return text_rnn_cells_network(
        shape, lambda e, make: make(edges[e]), width=width, dropout=dropout
    )


_OPERATIONS = ("none", "skip", "highway_tanh", "highway_relu", "highway_sigmoid")
_DEFAULTS = ("highway_tanh", "none", "highway_relu", "none", "none", "highway_tanh")

METHOD = Architecture(
    build=text_rnn_cells,
    kinds=("tokens",),
    ranges={
        "width": Choice([32, 64, 128], default=64),
        "dropout": Float(0.0, 0.4, default=0.0),
        **{
            edge: Choice(list(_OPERATIONS), default=name)
            for edge, name in zip(TEXT_RNN_CELLS_EDGES, _DEFAULTS, strict=True)
        },
    },
    parts=dict.fromkeys(TEXT_RNN_CELLS_EDGES, "operation"),
    cells=CellSpace(
        build=by_name(text_rnn_cells_network),
        nodes={"s1": ("e01",), "s2": ("e02", "e12"), "s3": ("e03", "e13", "e23")},
        depth="",
    ),
    when="a recurrence whose inside is to be found; short texts, for it is slow",
    source="arXiv:1806.09055",
)
