"""Text cells: a causal language model whose four mixing blocks are operations of their own.

    h = E[token] + P[place]
    h = h + dropout(mix1(h));  then mix2, mix3, mix4;  the four again, `cells` times in all
    output = W norm(h)

An operation has its norm inside. mix1 to mix4 are attention, a minimal recurrence, a convolution
over places, a feed-forward layer or none, in any order; `width` wide. The default is a transformer
of two blocks.
Source: the search is ours; pre-norm blocks: Xiong et al. 2020, arXiv:2002.04745.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from automl.methods.architectures._by_name import by_name
from automl.methods.stages import Architecture, CellSpace, Shape
from automl.space.ranges import Choice, Float, Int

TEXT_CELLS_EDGES = ("mix1", "mix2", "mix3", "mix4")


class TextCellsModel(nn.Module):
    """Tokens [b, t] int64 -> logits of the next token [b, t, vocabulary]."""

    def __init__(
        self, shape: Shape, blocks: list[nn.Module], *, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(shape.vocabulary, width)
        self.place = nn.Embedding(shape.features[0], width)
        self.blocks = nn.ModuleList(blocks)
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.outputs, bias=False)
        for embedding in (self.token, self.place):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        h = self.token(tokens) + self.place(places)
        for block in self.blocks:
            h = h + self.drop(block(h))
        logits: Tensor = self.head(self.norm(h))
        return logits


def text_cells_network(
    shape: Shape,
    place: Callable[[str, Callable[..., nn.Module]], nn.Module],
    *,
    width: int,
    cells: int,
    dropout: float,
) -> nn.Module:
    """Embeddings, blocks and head; what stands on an edge is `place`'s affair."""

    def make(
        operation: Callable[..., nn.Module], *, affine: bool = True, parts: int = 1
    ) -> nn.Module:
        return operation(width // parts, affine=affine)

    blocks = [place(edge, make) for _ in range(cells) for edge in TEXT_CELLS_EDGES]
    return TextCellsModel(shape, blocks, width=width, dropout=dropout)


def text_cells(
    shape: Shape, *, width: int, cells: int, dropout: float, **edges: Callable[..., nn.Module]
) -> nn.Module:
    return text_cells_network(
        shape, lambda e, make: make(edges[e]), width=width, cells=cells, dropout=dropout
    )


_OPERATIONS = ("none", "attention", "min_gru_mix", "min_lstm_mix", "causal_conv", "feed_forward")
_DEFAULTS = ("attention", "feed_forward", "attention", "feed_forward")

METHOD = Architecture(
    build=text_cells,
    kinds=("tokens",),
    ranges={
        "width": Choice([32, 64, 128], default=64),
        "cells": Int(1, 3, default=1),
        "dropout": Float(0.0, 0.4, default=0.0),
        **{
            edge: Choice(list(_OPERATIONS), default=name)
            for edge, name in zip(TEXT_CELLS_EDGES, _DEFAULTS, strict=True)
        },
    },
    parts=dict.fromkeys(TEXT_CELLS_EDGES, "operation"),
    cells=CellSpace(
        build=by_name(text_cells_network),
        nodes={edge: (edge,) for edge in TEXT_CELLS_EDGES},
        channels=2,
    ),
    when="what should mix places, found by an architecture search",
    source="arXiv:2002.04745",
)
