"""Dense after a layer norm: W silu(layer norm(h)) + b; no sample sees another.

Source: Ba et al. 2016, arXiv:1607.06450.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def dense_layer_operation(width: int, *, affine: bool = True) -> nn.Module:
    norm = nn.LayerNorm(width, elementwise_affine=affine)
    return nn.Sequential(norm, nn.SiLU(), nn.Linear(width, width))


METHOD = Operation(make=dense_layer_operation, kinds=("vector",), source="arXiv:1607.06450")
