"""WSD (trapezoid): warm up, stay, cool down over the last share of the training.

    W = warmup*horizon,  D = cooldown*horizon
    factor = (step + 1)/W                   while step < W
    factor = 1                              until step = horizon - D
    factor = shape(u)                       u = (step - (horizon - D))/D
    shape(u): "1-sqrt" 1 - sqrt(u);  "linear" 1 - u;  "cosine" (1 + cos(pi*u))/2

The loss falls late and steeply, inside the cooldown: before it, a good recipe looks no better than
a bad one. Past the end the factor stays.
Source: Haegele et al. 2024, arXiv:2405.18392.
"""

from __future__ import annotations

import math

from automl.methods.stages import Schedule
from automl.space.ranges import Choice, Float


def wsd_factor(
    step: int, horizon: int, *, warmup: float = 0.0, cooldown: float = 0.2, shape: str = "1-sqrt"
) -> float:
    warm = round(warmup * horizon)
    if step < warm:
        return (step + 1) / warm
    down = round(cooldown * horizon)
    u = max(0, min(step, horizon - 1) - (horizon - down)) / max(down, 1)
    if shape == "1-sqrt":
        return 1 - math.sqrt(u)
    return 1 - u if shape == "linear" else (1 + math.cos(math.pi * u)) / 2


METHOD = Schedule(
    factor=wsd_factor,
    # Above a cooldown of .4 nothing stays of the plateau; below .05 it is too short to harvest.
    ranges={
        "warmup": Float(0.0, 0.2, default=0.05),
        "cooldown": Float(0.05, 0.4, log=True, default=0.2),
        "shape": Choice(["1-sqrt", "linear", "cosine"]),
    },
    when="trainings that may be extended",
    source="arXiv:2405.18392",
)
