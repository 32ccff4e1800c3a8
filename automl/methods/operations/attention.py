"""Attention: each place mixes what stands at and before it, two heads: W attend(norm(h)).

Source: Vaswani et al. 2017, arXiv:1706.03762.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.stages import Operation


class AttentionOperation(nn.Module):
    """[b, t, width] -> the same."""

    def __init__(self, width: int, *, affine: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        b, t, width = h.shape
        q, k, v = self.qkv(self.norm(h)).view(b, t, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.mix(seen.transpose(1, 2).reshape(b, t, width))
        return out


def attention_operation(width: int, *, affine: bool = True) -> nn.Module:
    return AttentionOperation(width, affine=affine)


METHOD = Operation(make=attention_operation, kinds=("tokens",), source="arXiv:1706.03762")
