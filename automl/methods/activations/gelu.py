"""GELU: f(x) = x P(N(0, 1) <= x).

Smooth, a little below 0 on the left; usual in transformers. On a CPU many times the cost of ReLU.
Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
"""

from __future__ import annotations

from torch import nn

from automl.methods.stages import Activation


def gelu_activation(dim: int) -> nn.Module:
    return nn.GELU()


METHOD = Activation(make=gelu_activation, source="arXiv:1606.08415")
