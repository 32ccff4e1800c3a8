"""One cycle: up from 1/div to the full learning rate, then down to almost nothing.

    rise = share*horizon - 1                the step of the peak
    factor = 1/div -> 1                     half a cosine, up to step = rise
    factor = 1 -> 1/(div*final_div)         half a cosine, up to step = horizon - 1
    momentum = high -> low -> high          the opposite way, at the same steps

It sets the optimizer's first momentum ("momentum" or b1) itself: a searched value of that is
without effect. The peak may lie above what a constant rate survives. Past the end both stay.
Source: Smith and Topin 2018, arXiv:1708.07120; torch.optim.lr_scheduler.OneCycleLR.
"""

from __future__ import annotations

import math

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def one_cycle_factor(
    step: int,
    horizon: int,
    *,
    share: float = 0.3,
    div: float = 25.0,
    final_div: float = 1e4,
    low: float = 0.85,
    high: float = 0.95,
) -> float:
    return _one_cycle_walk(step, horizon, share, 1 / div, 1.0, 1 / (div * final_div))


def one_cycle_momentum(
    step: int,
    horizon: int,
    *,
    share: float = 0.3,
    div: float = 25.0,
    final_div: float = 1e4,
    low: float = 0.85,
    high: float = 0.95,
) -> float:
    return _one_cycle_walk(step, horizon, share, high, low, high)


def _one_cycle_walk(
    step: int, horizon: int, share: float, start: float, peak: float, end: float
) -> float:
    step = min(step, horizon - 1)
    rise = max(share * horizon - 1, 0.0)
    if step < rise:
        a, b, u = start, peak, step / rise
    else:
        a, b, u = peak, end, (step - rise) / max(horizon - 1 - rise, 1e-9)
    return b + (a - b) / 2 * (1 + math.cos(math.pi * u))


METHOD = Schedule(
    factor=one_cycle_factor,
    momentum=one_cycle_momentum,
    ranges={
        "share": Float(0.1, 0.5, default=0.3),
        "div": Float(10.0, 25.0, default=25.0),
        "final_div": Float(1e3, 1e5, log=True, default=1e4),
        "low": Float(0.8, 0.9, default=0.85),
        "high": Float(0.9, 0.98, default=0.95),
    },
    when="SGD, short trainings at high rates",
    source="arXiv:1708.07120",
)
