"""Mish: f(x) = x tanh(log(1 + e^x)).

Close to SiLU, a little deeper below 0: its least value is -0.31 at x = -1.19.
Source: Misra 2019, arXiv:1908.08681.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Activation


def mish_activation(dim: int) -> nn.Module:
    return nn.Mish()


METHOD = Activation(make=mish_activation, source="arXiv:1908.08681")
