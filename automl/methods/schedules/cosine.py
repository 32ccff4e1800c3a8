"""Cosine: half a cosine from the full learning rate down to the share `end`, after a warmup.

    W = warmup*horizon
    factor = (step + 1)/W                                       while step < W
    factor = end + (1 - end)/2 * (1 + cos(pi*u))                u = (step - W)/(horizon - W)

The last step still moves: u = 1 would be reached at step = horizon. Past the end the factor stays
(a plain cosine would rise again).
Source: Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts.
"""

from __future__ import annotations

import math

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def cosine_factor(step: int, horizon: int, *, warmup: float = 0.0, end: float = 0.0) -> float:
    warm = round(warmup * horizon)
    if step < warm:
        return (step + 1) / warm
    u = (min(step, horizon - 1) - warm) / (horizon - warm)
    return end + (1 - end) / 2 * (1 + math.cos(math.pi * u))


METHOD = Schedule(
    factor=cosine_factor,
    # A tenth of the peak left at the end is the most that published recipes keep.
    ranges={"warmup": Float(0.0, 0.2, default=0.05), "end": Float(0.0, 0.1, default=0.0)},
    when="the default",
    source="arXiv:1608.03983",
)
