"""SiLU: f(x) = x sigmoid(x), also called swish.

Smooth, with its least value of -0.28 at x = -1.28.
Source: Elfwing et al. 2017, arXiv:1702.03118.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Activation


def silu_activation(dim: int) -> nn.Module:
    return nn.SiLU()


METHOD = Activation(make=silu_activation, source="arXiv:1702.03118")
