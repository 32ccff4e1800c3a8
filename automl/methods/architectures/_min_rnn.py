"""minGRU and minLSTM: their parallel scan in log space, their cells, and the network around them.

    h_t = a_t h_{t-1} + b_t,  h_0 = 0,  a, b > 0
    A_t = log a_1 + ... + log a_t;     h_t = exp(A_t + log sum_{s <= t} exp(log b_s - A_s))

b holds g(x) = x + 1/2 for x >= 0, sigmoid(x) below: positive, so that its logarithm exists.
Source: Feng et al. 2024, arXiv:2410.01201; scan: Heinsen 2023, arXiv:2311.06281.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.architectures._shortcut import Shortcut
from automl.methods.stages import Shape


def min_rnn_scan(log_a: Tensor, log_b: Tensor) -> Tensor:
    """States h [b, t, d] of log a and log b [b, t, d]; at least float32 inside."""
    wide = torch.promote_types(log_a.dtype, torch.float32)  # halves overflow in the sum
    total = log_a.to(wide).cumsum(1)
    return torch.exp(total + torch.logcumsumexp(log_b.to(wide) - total, 1)).to(log_a.dtype)


def min_rnn_log_g(x: Tensor) -> Tensor:
    """log g(x)."""
    return torch.where(x >= 0, torch.log(torch.relu(x) + 0.5), -F.softplus(-x))


class MinGruCell(nn.Module):
    """[b, t, width] -> states [b, t, inner]."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.both(x).chunk(2, -1)
        return min_rnn_scan(-F.softplus(k), -F.softplus(-k) + min_rnn_log_g(v))


class MinLstmCell(nn.Module):
    """[b, t, width] -> states [b, t, inner]."""

    def __init__(self, width: int, inner: int, forget_bias: float = 0.0) -> None:
        super().__init__()
        self.all = nn.Linear(width, 3 * inner)
        with torch.no_grad():
            self.all.bias[:inner] += forget_bias

    def forward(self, x: Tensor) -> Tensor:
        f, i, v = self.all(x).chunk(3, -1)
        d = F.softplus(-f) - F.softplus(-i)
        return min_rnn_scan(-F.softplus(d), -F.softplus(-d) + min_rnn_log_g(v))


class MinRnnBlock(nn.Module):
    """h + W cell(norm(h)) on [b, t, width]."""

    def __init__(
        self,
        cell: nn.Module,
        *,
        width: int,
        inner: int,
        norm: str,
        dropout: float,
        shortcut: Shortcut,
    ) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width) if norm == "rms" else nn.LayerNorm(width)
        self.cell = cell
        self.mix = nn.Linear(inner, width)
        self.drop = nn.Dropout(dropout)
        self.shortcut = shortcut

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.shortcut(h, self.drop(self.mix(self.cell(self.norm(h)))))
        return out


class MinRnnModel(nn.Module):
    """Tokens [b, t] int64 -> logits of the next token [b, t, vocabulary]."""

    def __init__(
        self,
        shape: Shape,
        cell: Callable[[int, int], nn.Module],
        *,
        width: int,
        depth: int,
        expansion: int,
        norm: str,
        residual: str,
        dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        inner = expansion * width
        self.token = nn.Embedding(shape.vocabulary, width)
        blocks = []
        for i in range(depth):
            drop = drop_path * (i + 1) / depth
            shortcut = Shortcut(width, residual=residual, branches=depth, drop=drop)
            block = MinRnnBlock(
                cell(width, inner),
                width=width,
                inner=inner,
                norm=norm,
                dropout=dropout,
                shortcut=shortcut,
            )
            blocks.append(block)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.RMSNorm(width) if norm == "rms" else nn.LayerNorm(width)
        self.head = nn.Linear(width, shape.outputs)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.token(tokens))))
        return logits
