"""Weierstrass-Mandelbrot: sines of doubling frequency on a line.

    f(x) = sum_{k = 1 .. N} l^(-k g) (x + sin(2 pi l^k x)),   g = 0.5, l = 2, N = 4

The slope grows like l^(N/2): about 75 at N = 4, so learning rates must be small.
Source: Fractals in Neural Networks 2025, preprints.org 202508.0478; N = 4 is ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from automl.methods.stages import Activation


def mandelbrot(x: Tensor, *, terms: int = 4) -> Tensor:
    total = torch.zeros_like(x)
    for k in range(1, terms + 1):
        total = total + 2.0 ** (-k / 2) * (x + torch.sin(2 * math.pi * 2**k * x))
    return total


class MandelbrotActivation(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return mandelbrot(x)


METHOD = Activation(make=MandelbrotActivation, year=2025, source="preprints.org 202508.0478")
