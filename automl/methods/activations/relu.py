"""ReLU: f(x) = max(x, 0).

The cheapest, and dead where x < 0: such a unit gets no gradient.
Source: Nair and Hinton 2010, ICML.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Activation


def relu_activation(dim: int) -> nn.Module:
    return nn.ReLU()


METHOD = Activation(make=relu_activation, year=2010, source="Nair and Hinton, ICML 2010")
