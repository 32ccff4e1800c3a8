"""The plain engine: forward and backward member by member, each with its own module.

The reference of all engines, the one of a single trial, and the one for models that the traced
engine cannot take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from automl.methods.stages import Batch
from automl.train.packed import Packed
from automl.train.seeding import seed_torch

MemberLoss = Callable[[Tensor, Tensor, Tensor | None, Tensor | None, Mapping[str, Tensor]], Tensor]
"""(output [b, ...], y [b, ...], y2, weight [b], hyper of 0-dim tensors) -> 0-dim loss."""

Precision = Callable[[], AbstractContextManager[object]]


class LoopEngine:
    """Losses [k] and gradients [k, p] at the present weights."""

    def __init__(self, packed: Packed, loss: MemberLoss, precision: Precision) -> None:
        self._packed, self._loss, self._precision = packed, loss, precision

    def __call__(
        self, batch: Batch, hyper: Mapping[str, Tensor], keys: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """One pass over the batch.

        Args:
            batch: of all members.
            hyper: of the loss, [k] each.
            keys: of what each member's modules draw (dropout) in this update.
        """
        packed = self._packed
        packed.g.zero_()
        losses = []
        with torch.enable_grad():
            for k, module in enumerate(packed.modules):
                seed_torch(keys[k], packed.w.device)
                with self._precision():
                    output = module(batch.x[k])
                y2 = None if batch.y2 is None else batch.y2[k]
                weight = None if batch.weight is None else batch.weight[k]
                own = {n: h[k] for n, h in hyper.items()}
                loss = self._loss(output, batch.y[k], y2, weight, own)
                loss.backward()
                losses.append(loss.detach())
        return torch.stack(losses), packed.g
