"""Feed-forward: each place by itself, W2 gelu(W1 norm(h)), 4 times as wide between.

Source: Vaswani et al. 2017, arXiv:1706.03762.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def feed_forward_operation(width: int, *, affine: bool = True) -> nn.Module:
    norm = nn.LayerNorm(width, elementwise_affine=affine)
    return nn.Sequential(norm, nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


METHOD = Operation(make=feed_forward_operation, kinds=("tokens",), source="arXiv:1706.03762")
