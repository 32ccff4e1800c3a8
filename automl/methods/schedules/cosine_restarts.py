"""Cosine with restarts (SGDR): several cosines, each `growth` times as long as the one before.

    W = warmup*horizon;  factor = (step + 1)/W      while step < W
    T0 = (horizon - W)/(1 + growth + ... + growth^(cycles - 1))         length of cycle 0
    factor = end + (peak - end)/2 * (1 + cos(pi*u)),  peak = max(decay^i, end)
                                                    u in [0, 1): place in cycle i

The cycles fill the horizon exactly, so that training ends at a cycle's end, where SGDR is good;
in the first steps of a cycle it looks worse than a plain cosine. At decay 1 every restart goes
back to the full rate. Past the end the factor stays.
Source: Loshchilov and Hutter 2016, arXiv:1608.03983; torch's CosineAnnealingWarmRestarts.
"""

from __future__ import annotations

import math

from automl.methods.stages import Schedule
from automl.space.ranges import Float, Int


def cosine_restarts_factor(
    step: int,
    horizon: int,
    *,
    warmup: float = 0.0,
    cycles: int = 3,
    growth: int = 2,
    decay: float = 1.0,
    end: float = 0.0,
) -> float:
    warm = round(warmup * horizon)
    if step < warm:
        return (step + 1) / warm
    left = min(step, horizon - 1) - warm
    length = (horizon - warm) / sum(growth**i for i in range(cycles))
    peak = 1.0
    # A step belongs to the next cycle once its length is used up, but for rounding.
    while left >= length * (1 - 1e-9):
        left, length, peak = max(left - length, 0.0), length * growth, peak * decay
    peak = max(peak, end)
    return end + (peak - end) / 2 * (1 + math.cos(math.pi * left / length))


METHOD = Schedule(
    factor=cosine_restarts_factor,
    # The paper's best settings restart two or three times, each cycle twice as long.
    ranges={
        "warmup": Float(0.0, 0.2, default=0.0),
        "cycles": Int(2, 5, default=3),
        "growth": Int(1, 2, default=2),
        "decay": Float(0.5, 1.0, default=1.0),
        "end": Float(0.0, 0.1, default=0.0),
    },
    when="several good points for an ensemble",
    source="arXiv:1608.03983",
)
