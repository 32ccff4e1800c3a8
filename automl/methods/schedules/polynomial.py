"""Polynomial: from the full learning rate down to the share `end` along (1 - u)^power.

    W = warmup*horizon;  factor = (step + 1)/W      while step < W
    factor = end + (1 - end)*(1 - u)^power          u = (step - W)/(horizon - W)

power 1 is the linear schedule; 2 falls faster at first and lands softly; below 1 it stays high
and falls late. Past the end the factor stays.
Source: Chen et al. 2016, arXiv:1606.00915 ("poly"); torch.optim.lr_scheduler.PolynomialLR.
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def polynomial_factor(
    step: int, horizon: int, *, warmup: float = 0.0, power: float = 2.0, end: float = 0.0
) -> float:
    warm = round(warmup * horizon)
    if step < warm:
        return (step + 1) / warm
    u = (min(step, horizon - 1) - warm) / (horizon - warm)
    return end + (1 - end) * float((1 - u) ** power)


METHOD = Schedule(
    factor=polynomial_factor,
    ranges={
        "warmup": Float(0.0, 0.2, default=0.05),
        "power": Float(0.5, 3.0, log=True, default=2.0),  # .9 for segmentation in the paper
        "end": Float(0.0, 0.1, default=0.0),
    },
    when="a decay between linear and steep",
    source="arXiv:1606.00915",
)
