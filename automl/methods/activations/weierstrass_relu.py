"""Weierstrass-ReLU: ReLU with waves about 0.

    f(x) = relu(x) + exp(-0.75|x|) sum_{n < N} (-1)^n a^n cos(b^n pi x),   a = 0.5, b = 3, N = 5

As a*b > 1 the limit has no derivative anywhere; with N = 5 the slope stays below about 40. The
authors sum 100 terms in float64; in float32 more than 12 mean nothing.
Source: Fractals in Neural Networks 2025, preprints.org 202508.0478; N = 5 is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl.methods.activations._weierstrass import weierstrass_envelope, weierstrass_series
from automl.methods.stages import Activation


def weierstrass_relu(x: Tensor, *, terms: int = 5) -> Tensor:
    return torch.relu(x) + weierstrass_envelope(x) * weierstrass_series(x, 0.5, 3.0, terms)


class WeierstrassReluActivation(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return weierstrass_relu(x)


METHOD = Activation(make=WeierstrassReluActivation, year=2025, source="preprints.org 202508.0478")
