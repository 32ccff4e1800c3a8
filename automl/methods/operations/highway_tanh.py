"""Highway with tanh: s + sigmoid(c)*(tanh(u) - s), (c, u) = W s + b: a gate says how much.

Source: Zilly et al. 2017, arXiv:1607.03474; Liu et al. 2019, arXiv:1806.09055.
"""

from __future__ import annotations

import torch
from torch import nn

from automl.methods.operations._highway import HighwayOperation
from automl.methods.stages import Operation


def highway_tanh_operation(width: int, *, affine: bool = True) -> nn.Module:
    return HighwayOperation(width, torch.tanh)


METHOD = Operation(make=highway_tanh_operation, kinds=("tokens",), source="arXiv:1607.03474")
