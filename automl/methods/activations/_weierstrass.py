"""The series of Weierstrass, whose derivative is known: autograd keeps x, not one tensor a term.

    s(x)  =  sum over n < terms of  (-1)^n a^n cos(b^n pi x)
    s'(x) = -sum over n < terms of  (-1)^n a^n b^n pi sin(b^n pi x)

With a*b < 1 both converge; with a*b > 1 the slope grows like (a*b)^terms. In float32 cos(b^n pi x)
means nothing once b^n is beyond a million.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class WeierstrassSeries(torch.autograd.Function):
    """s(x) for x of any shape."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, a: float, b: float, terms: int) -> Tensor:
        total = torch.zeros_like(x)
        for n in range(terms):
            total = total + (-a) ** n * torch.cos(b**n * math.pi * x)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.a, ctx.b, ctx.terms = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        slope = torch.zeros_like(x)
        for n in range(ctx.terms):
            size = (-ctx.a) ** n * ctx.b**n * math.pi
            slope = slope - size * torch.sin(ctx.b**n * math.pi * x)
        return gradients[0] * slope, None, None, None


def weierstrass_series(x: Tensor, a: float, b: float, terms: int) -> Tensor:
    out: Tensor = WeierstrassSeries.apply(x, a, b, terms)  # type: ignore[no-untyped-call]
    return out


def weierstrass_envelope(x: Tensor) -> Tensor:
    """exp(-0.75 |x|): the waves stay near 0."""
    return torch.exp(-0.75 * x.abs())
