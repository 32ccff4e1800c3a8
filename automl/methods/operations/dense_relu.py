"""Dense: W relu(batch norm(h)) + b.

Source: He et al. 2016, arXiv:1603.05027 (norm and activation before the weights).
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Operation


def dense_relu_operation(width: int, *, affine: bool = True) -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(width, affine=affine), nn.ReLU(), nn.Linear(width, width))


METHOD = Operation(make=dense_relu_operation, kinds=("vector",), source="arXiv:1603.05027")
