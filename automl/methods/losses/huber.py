"""Huber's loss: squared near 0, linear beyond delta.

    e = |output - target|
    loss = e^2/2           where e <= delta
           delta*(e - delta/2)  elsewhere

Outliers pull with a bounded force. Targets are standardized, so delta counts standard deviations;
at a large delta it is half the squared error.
Source: Huber 1964, doi:10.1214/aoms/1177703732; torch.nn.HuberLoss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Loss
from automl.space.ranges import Float


def huber_loss(output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
    delta = hyper["delta"]
    e = (output - target).abs()
    value = torch.where(e <= delta, e.square() / 2, delta * (e - delta / 2))
    return value.flatten(1).mean(dim=1)


METHOD = Loss(
    value=huber_loss,
    targets=("values",),
    ranges={"delta": Float(0.1, 3.0, log=True, default=1.0)},
    year=1964,
    when="targets with outliers",
    source="doi:10.1214/aoms/1177703732",
)
