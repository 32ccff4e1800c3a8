"""Linear: a straight line from the full learning rate down to the share `end`, after a warmup.

    W = warmup*horizon
    factor = (step + 1)/W                   while step < W
    factor = 1 - (1 - end)*u                u = (step - W)/(horizon - W)

The last step still moves: u = 1 would be reached at step = horizon. Past the end the factor stays.
Source: Defazio et al. 2023, arXiv:2310.07831, who find it the best single choice.
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def linear_factor(step: int, horizon: int, *, warmup: float = 0.0, end: float = 0.0) -> float:
    warm = round(warmup * horizon)
    if step < warm:
        return (step + 1) / warm
    u = (min(step, horizon - 1) - warm) / (horizon - warm)
    return 1 - (1 - end) * u


METHOD = Schedule(
    factor=linear_factor,
    ranges={"warmup": Float(0.0, 0.2, default=0.05), "end": Float(0.0, 0.1, default=0.0)},
    when="short trainings, AdamW",
    evidence="Defazio et al. 2023: best or close to it on most of their tasks (not rerun here)",
    source="arXiv:2310.07831",
)
