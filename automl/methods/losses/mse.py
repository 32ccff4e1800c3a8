"""Squared error, the mean over the targets of a sample.

    loss = mean of (output - target)^2

Its answer is the conditional mean; a few outliers can dominate it (see huber).
Source: Legendre 1805; torch.nn.MSELoss.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Hyper, Loss


def mse_loss(output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
    return (output - target).square().flatten(1).mean(dim=1)


METHOD = Loss(
    value=mse_loss,
    targets=("values",),
    year=1805,
    when="targets without outliers; the default",
    source="torch.nn.MSELoss",
)
