"""Triangular: the learning rate rises and falls in straight lines, `cycles` times.

    x = step/s - 2c - 1                             s = horizon/(2*cycles), half a cycle
    factor = base + (1 - base)*max(0, 1 - |x|)      c = floor(step/(2s)), the cycle from 0

It begins and ends at the share `base`, so the first rise is the warmup. Set the learning rate to
the largest that a range test survives. Compare trials at the ends of cycles only.
Source: Smith 2015, arXiv:1506.01186; torch.optim.lr_scheduler.CyclicLR without momentum.
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float, Int


def triangular_factor(step: int, horizon: int, *, base: float = 0.1, cycles: int = 4) -> float:
    x = min(step, horizon - 1) * 2 * cycles / horizon
    return base + (1 - base) * (1 - abs(x % 2 - 1))


METHOD = Schedule(
    factor=triangular_factor,
    # The paper takes base from a third to a quarter; half cycles of 2 to 10 epochs.
    ranges={"base": Float(0.01, 0.5, log=True, default=0.1), "cycles": Int(1, 8, default=4)},
    when="a rate known only within a decade",
    source="arXiv:1506.01186",
)
