"""Constant: the full learning rate after a linear warmup.

    factor = (step + 1)/W   while step < W = warmup*horizon
    factor = 1              afterwards

It has no horizon apart from the warmup's, so a training can be extended at will; the noise of the
last steps stays in the weights unless they are averaged.
Source: the identity; warmup as in Goyal et al. 2017, arXiv:1706.02677.
"""

from __future__ import annotations

from automl.methods.stages import Schedule
from automl.space.ranges import Float


def constant_factor(step: int, horizon: int, *, warmup: float = 0.0) -> float:
    warm = round(warmup * horizon)
    return (step + 1) / warm if step < warm else 1.0


METHOD = Schedule(
    factor=constant_factor,
    ranges={"warmup": Float(0.0, 0.2, default=0.05)},
    when="a length not known beforehand, with an average",
    source="arXiv:1706.02677",
)
