"""What the highway operations share: a gate says how much of the new takes the place of the old.

    s + sigmoid(c)*(f(u) - s),   (c, u) = W s + b

Source: Zilly et al. 2017, arXiv:1607.03474.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class HighwayOperation(nn.Module):
    """[b, width] -> the same, with the activation f."""

    def __init__(self, width: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.both = nn.Linear(width, 2 * width)
        self.activation = activation

    def forward(self, s: Tensor) -> Tensor:
        gate, value = self.both(s).chunk(2, -1)
        out: Tensor = s + gate.sigmoid() * (self.activation(value) - s)
        return out
