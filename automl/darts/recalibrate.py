"""Batch norm's running statistics, measured anew for the network as it stands.

While a supernet trains, its statistics follow the mixture; once candidates are taken out they
belong to no network at all, and an evaluation with them judges the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
def outputs_of(module: nn.Module, x: Tensor, *, measure: Tensor) -> Tensor:
    """Those on `x` with statistics measured on `measure`; both are kept as they were.

    The module is in training mode afterwards.
    """
    before = [b.clone() for b in module.buffers()]
    recalibrate(module, [part for part in measure.split(256) if len(part) > 1])
    found = torch.cat([module(part) for part in x.split(512)])
    for buffer, old in zip(module.buffers(), before, strict=True):
        buffer.copy_(old)
    module.train()
    return found


def share_right(outputs: Tensor, targets: Tensor) -> float:
    """Share of samples whose largest output is the target's, in [0, 1]."""
    return float((outputs.argmax(-1) == targets).double().mean())


Score = Callable[[Tensor, Tensor], float]
"""score(outputs, targets) of all samples; higher is better."""
