"""Exp range: triangular cycles whose height decays exponentially over the whole training.

    x = step/s - 2c - 1                                             s = horizon/(2*cycles)
    factor = base + (1 - base)*max(0, 1 - |x|)*last^(step/horizon)  c = floor(step/(2s))

`last` is the height left at the end: the paper's gamma is last^(1/horizon). It begins and ends at
the share `base`; the peaks stay below 1, since the first comes after half a cycle.
Source: Smith 2015, arXiv:1506.01186; torch.optim.lr_scheduler.CyclicLR, mode "exp_range".
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float, Int


def exp_range_factor(
    step: int, horizon: int, *, base: float = 0.1, cycles: int = 4, last: float = 0.3
) -> float:
    step = min(step, horizon - 1)
    x = step * 2 * cycles / horizon
    height = float(last ** (step / horizon))
    return base + (1 - base) * (1 - abs(x % 2 - 1)) * height


METHOD = Schedule(
    factor=exp_range_factor,
    ranges={
        "base": Float(0.01, 0.5, log=True, default=0.1),
        "cycles": Int(1, 8, default=4),
        "last": Float(0.05, 0.9, log=True, default=0.3),
    },
    when="as triangular, settling smoothly",
    source="arXiv:1506.01186",
)
