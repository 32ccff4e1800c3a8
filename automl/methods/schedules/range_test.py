"""Range test: the learning rate rises from the share `low` to the full one, by equal factors.

    factor = low^(1 - step/(horizon - 1))

Not made for training but for a look at which rates a network bears: `automl lr-find` trains a
few hundred steps of it and reads where the loss falls and where it breaks. Past the end it stays.
Source: Smith 2015, arXiv:1506.01186, section 3.3, there along a straight line.
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def range_test_factor(step: int, horizon: int, *, low: float = 1e-6) -> float:
    if horizon == 1:
        return 1.0
    return float(low ** (1 - min(step, horizon - 1) / (horizon - 1)))


METHOD = Schedule(
    factor=range_test_factor,
    ranges={"low": Float(1e-8, 1e-2, log=True, default=1e-6)},
    when="`automl lr-find` only",
    source="arXiv:1506.01186",
)
