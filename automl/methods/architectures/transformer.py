"""Transformer: a small causal language model with pre-norm blocks.

    h = E[token] + P[place]
    h = h + dropout(attention(norm(h))),  each place sees itself and what stands before
    h = h + dropout(W2 act(W1 norm(h))),  4*width wide,  `depth` times
    output = W norm(h)

Attention has `heads` heads, each width/heads wide. Needs warmup; its matrices are what Muon was
made for. norm is layer norm or RMS norm, act the activation; residual says how much of a branch is
added (`_shortcut.py`). In training a sample passes by both branches of block i
of `depth` with probability drop_path*i/depth, i = 1 .. depth (stochastic depth).
Source: Vaswani et al. 2017, arXiv:1706.03762; pre-norm: Xiong et al. 2020, arXiv:2002.04745;
RMS norm: arXiv:1910.07467; stochastic depth: Huang et al. 2016, arXiv:1603.09382.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.architectures._shortcut import Shortcut
from automl.methods.stages import Architecture, Shape
from automl.registry import family
from automl.space.ranges import Choice, Float, Int


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each with its norm and its shortcut."""

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        activation: Callable[[int], nn.Module],
        norm: str,
        dropout: float,
        shortcuts: list[Shortcut],
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = transformer_norm(norm, width), transformer_norm(norm, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.wide = nn.Linear(width, getattr(activation, "lanes", 1) * 4 * width)
        self.act = activation(-1)
        self.narrow = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)
        self.added1, self.added2 = shortcuts

    def forward(self, h: Tensor) -> Tensor:
        h = self.added1(h, self.attended(h))
        out: Tensor = self.added2(h, self.drop(self.narrow(self.act(self.wide(self.norm2(h))))))
        return out

    def attended(self, h: Tensor) -> Tensor:
        b, t, width = h.shape
        qkv = self.qkv(self.norm1(h)).view(b, t, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.drop(self.mix(seen.transpose(1, 2).reshape(b, t, width)))
        return out


def transformer_norm(norm: str, width: int) -> nn.Module:
    return nn.RMSNorm(width) if norm == "rms" else nn.LayerNorm(width)


class TransformerModel(nn.Module):
    """Tokens [b, t] int64 -> logits of the next token [b, t, vocabulary]."""

    def __init__(
        self,
        shape: Shape,
        *,
        width: int,
        depth: int,
        heads: int,
        activation: Callable[[int], nn.Module],
        norm: str,
        residual: str,
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(shape.vocabulary, width)
        self.place = nn.Embedding(shape.features[0], width)

        def shortcut(block: int) -> Shortcut:
            drop = drop_path * (block + 1) / depth
            return Shortcut(width, residual=residual, branches=2 * depth, drop=drop)

        blocks = [
            TransformerBlock(
                width,
                heads=heads,
                activation=activation,
                norm=norm,
                dropout=dropout,
                shortcuts=[shortcut(i), shortcut(i)],
            )
            for i in range(depth)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = transformer_norm(norm, width)
        self.head = nn.Linear(width, shape.outputs, bias=False)
        for embedding in (self.token, self.place):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        h = self.token(tokens) + self.place(places)
        logits: Tensor = self.head(self.norm(self.blocks(h)))
        return logits


def transformer(shape: Shape, **hyper: Any) -> nn.Module:
    return TransformerModel(shape, **hyper)


METHOD = Architecture(
    build=transformer,
    kinds=("tokens",),
    ranges={
        "width": Choice([32, 64, 128], default=64),
        "depth": Int(1, 4, default=2),
        "heads": Choice([1, 2, 4], default=2),
        "activation": Choice(list(family("activation").names()), default="gelu"),
        "norm": Choice(["layer", "rms"]),
        "residual": Choice(["plain", "depth", "layer_scale"]),
        "dropout": Float(0.0, 0.4, default=0.0),
        "drop_path": Float(0.0, 0.3, default=0.0),
    },
    parts={"activation": "activation"},
    when="texts of a megabyte and more",
    source="arXiv:1706.03762",
)
