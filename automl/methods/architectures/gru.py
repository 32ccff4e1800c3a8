"""GRU: a gated recurrent language model.

    z, r = sigmoid(W x + U h)          update and reset
    n = tanh(W x + r*(U h))
    h = (1 - z)*n + z*h                `depth` layers, `width` wide, dropout between them
    output = W dropout(h) + b

Reads left to right with a memory of fixed size. Clip its gradients; it likes a larger rate than
a transformer.
Source: Cho et al. 2014, arXiv:1406.1078.
"""

from __future__ import annotations

from torch import Tensor, nn

from automl.methods.stages import Architecture, Shape
from automl.space.ranges import Choice, Float, Int


class GruModel(nn.Module):
    """Tokens [b, t] int64 -> logits of the next token [b, t, vocabulary]."""

    def __init__(self, shape: Shape, *, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(shape.vocabulary, width)
        between = dropout if depth > 1 else 0.0  # torch warns of a rate that is never used
        self.gru = nn.GRU(width, width, depth, batch_first=True, dropout=between)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, shape.outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.token(tokens))
        logits: Tensor = self.head(self.drop(states))
        return logits


def gru(shape: Shape, *, width: int, depth: int, dropout: float) -> nn.Module:
    return GruModel(shape, width=width, depth=depth, dropout=dropout)


METHOD = Architecture(
    build=gru,
    kinds=("tokens",),
    ranges={
        "width": Choice([32, 64, 128], default=64),
        "depth": Int(1, 2, default=1),
        "dropout": Float(0.0, 0.4, default=0.0),
    },
    when="short texts on a CPU",
    source="arXiv:1406.1078",
)
