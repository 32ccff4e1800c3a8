"""Step: the rate is multiplied by `gamma` each time a share `every` of the training has passed.

    W = warmup*horizon;  factor = (step + 1)/W      while step < W
    factor = gamma^floor((step - W)/s),  s = every*(horizon - W)

With gamma .1 and every .3 it is the schedule of the first residual networks. The loss falls at
each step down: a trial judged just before one looks worse than it is.
Source: He et al. 2015, arXiv:1512.03385 (by hand there); torch.optim.lr_scheduler.StepLR.
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def step_factor(
    step: int, horizon: int, *, warmup: float = 0.0, gamma: float = 0.1, every: float = 0.3
) -> float:
    warm = round(warmup * horizon)
    if step < warm:
        return (step + 1) / warm
    past = (min(step, horizon - 1) - warm) / (every * (horizon - warm))
    return gamma ** int(past + 1e-9)  # rounding must not put a step down off by one


METHOD = Schedule(
    factor=step_factor,
    # From a tenth, which is customary, to gentle steps; one to six of them.
    ranges={
        "warmup": Float(0.0, 0.2, default=0.05),
        "gamma": Float(0.05, 0.8, log=True, default=0.1),
        "every": Float(0.15, 0.6, default=0.3),
    },
    when="a published recipe to be repeated",
    source="arXiv:1512.03385",
)
