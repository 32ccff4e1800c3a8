"""Dense: W gelu(batch norm(h)) + b.

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def dense_gelu_operation(width: int, *, affine: bool = True) -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(width, affine=affine), nn.GELU(), nn.Linear(width, width))


METHOD = Operation(make=dense_gelu_operation, kinds=("vector",), source="arXiv:1606.08415")
