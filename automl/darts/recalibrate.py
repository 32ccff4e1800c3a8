"""Batch norm's running statistics, measured anew for the network as it stands.

While a supernet trains, its statistics follow the mixture; once candidates are taken out they
belong to no network at all, and an evaluation with them judges the statistics.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(module: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Set each running mean and variance to the plain mean over the batches of `inputs`.

    The module is left in evaluation mode. A batch of one sample measures nothing: give more.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    for x in inputs:
        module(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


@torch.no_grad()
def accuracy(module: nn.Module, x: Tensor, y: Tensor, *, measure: Tensor) -> float:
    """Share of `x` classified right, with statistics measured on `measure`; both are kept as were.

    Returns:
        In [0, 1]; the module is in training mode again afterwards.
    """
    before = [b.clone() for b in module.buffers()]
    recalibrate(module, [part for part in measure.split(256) if len(part) > 1])
    right = torch.cat([module(part) for part in x.split(512)]).argmax(1) == y
    for buffer, old in zip(module.buffers(), before, strict=True):
        buffer.copy_(old)
    module.train()
    return float(right.double().mean())
