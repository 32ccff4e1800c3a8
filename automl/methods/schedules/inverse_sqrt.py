"""Inverse square root: a linear warmup, then the rate falls as 1/sqrt(step).

    W = warmup*horizon, at least 1;  n = step + 1
    factor = n/W                    while n < W
    factor = sqrt(W/n)              afterwards

Its tail needs no horizon: a training can be extended without a new schedule. It never lands: at
a warmup of .1 the last factor is .32, so averaging of weights helps it. The warmup sets the fall,
too: a short one means a low rate throughout.
Source: Vaswani et al. 2017, arXiv:1706.03762, with the peak scaled to 1.
"""

from __future__ import annotations

import math

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def inverse_sqrt_factor(step: int, horizon: int, *, warmup: float = 0.1) -> float:
    warm = max(round(warmup * horizon), 1)
    n = min(step, horizon - 1) + 1
    return n / warm if n < warm else math.sqrt(warm / n)


METHOD = Schedule(
    factor=inverse_sqrt_factor,
    ranges={"warmup": Float(0.005, 0.3, log=True, default=0.1)},
    when="transformers, open ends",
    source="arXiv:1706.03762",
)
