"""Blancmange: the fractal pudding of Takagi, modulated by tanh.

    f(x) = 1/2 sum_{n < N} tanh(a 2^n x) |(2^n x mod 2) - a sqrt|x|| / 2^n,   a = 0.75, N = 10

Steep everywhere: slopes of about 3000 were measured on [-3, 3], and digits suffered for it (0.935
where tanh had 0.974, 64-64-10, 10 epochs, best of two rates). No gradient passes through the modulo
where it jumps, and none through the root at 0, which is taken of |x| + 1e-12.
Source: Fractals in Neural Networks 2025, preprints.org 202508.0478, there with N = 30.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl.methods.stages import Activation


def blancmange(x: Tensor, *, terms: int = 10) -> Tensor:
    a = 0.75
    root = a * torch.sqrt(x.abs() + 1e-12)
    total = torch.zeros_like(x)
    for n in range(terms):
        y = 2.0**n * x
        total = total + torch.tanh(a * y) * (torch.remainder(y, 2.0) - root).abs() / 2.0**n
    return total / 2


class BlancmangeActivation(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return blancmange(x)


METHOD = Activation(make=BlancmangeActivation, year=2025, source="preprints.org 202508.0478")
