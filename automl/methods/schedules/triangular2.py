"""Triangular2: triangular, the height of each cycle half of the one before.

    x = step/s - 2c - 1                                     s = horizon/(2*cycles), half a cycle
    factor = base + (1 - base)*max(0, 1 - |x|)/2^c          c = floor(step/(2s)), the cycle from 0

The first cycle explores, the later ones settle. It begins and ends at the share `base`.
Source: Smith 2015, arXiv:1506.01186; torch.optim.lr_scheduler.CyclicLR, mode "triangular2".
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float, Int


def triangular2_factor(step: int, horizon: int, *, base: float = 0.1, cycles: int = 4) -> float:
    x = min(step, horizon - 1) * 2 * cycles / horizon
    return base + (1 - base) * (1 - abs(x % 2 - 1)) * 0.5 ** int(x / 2)


METHOD = Schedule(
    factor=triangular2_factor,
    ranges={"base": Float(0.01, 0.5, log=True, default=0.1), "cycles": Int(1, 8, default=4)},
    when="as triangular, settling",
    source="arXiv:1506.01186",
)
