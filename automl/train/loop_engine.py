"""The plain engine: forward and backward member by member, each with its own module.

The reference of all engines, the one of a single trial, and the one for models that the traced
engine cannot take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from automl.methods.stages import Batch
from automl.train.inputs import Inputs
from automl.train.packed import Packed

MemberLoss = Callable[[Tensor, Tensor, Tensor | None, Tensor | None, Mapping[str, Tensor]], Tensor]
"""(output [b, ...], y [b, ...], y2, weight [b], hyper of one member) -> 0-dim loss."""

Precision = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Pass:
    """One pass over a batch of all members.

    hyper: of the loss, [k] each; samples: what it is given of each sample, [k, b, ...] each; keys:
    says those of what each member's modules draw (dropout) in the update that stands next; inputs:
    hands on what is drawn by them beforehand.
    """

    batch: Batch
    hyper: Mapping[str, Tensor]
    samples: Mapping[str, Tensor]
    keys: Callable[[], Sequence[int]]
    loss: MemberLoss
    precision: Precision
    inputs: Inputs


class LoopEngine:
    """Losses [k] and gradients [k, p] at the present weights.

    Args:
        sizes: samples of each member's batch, in batches as large as the largest of them.
    """

    def __init__(self, packed: Packed, sizes: Sequence[int]) -> None:
        padded = len(set(sizes)) > 1
        self._packed = packed
        self._rows = [(k, slice(n)) if padded else k for k, n in enumerate(sizes)]

    def __call__(self, work: Pass) -> tuple[Tensor, Tensor]:
        packed, batch = self._packed, work.batch
        packed.g.zero_()
        losses, keys = [], work.keys()
        with torch.enable_grad():
            for k, module in enumerate(packed.modules):
                packed.begin_pass(k, keys[k])
                row = self._rows[k]
                with work.precision():
                    output = module(batch.x[row])
                y2 = None if batch.y2 is None else batch.y2[row]
                weight = None if batch.weight is None else batch.weight[row]
                own = {name: h[k] for name, h in work.hyper.items()}
                own |= {name: x[row] for name, x in work.samples.items()}
                loss = work.loss(output, batch.y[row], y2, weight, own)
                loss.backward()
                losses.append(loss.detach())
        return torch.stack(losses), packed.g
