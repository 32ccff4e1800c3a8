"""Batch-size warmup: the first steps see smaller batches, that is, noisier gradients.

    s = start + (1 - start)*min(1, progress/full)
    the first max(1, round(s*b)) of the b samples, repeated in turn until there are b

The gradient is that of the small batch, up to the samples that are repeated once more than
others; the number of steps and their cost stay, so this buys the noise of small batches and saves
nothing. Small batches early and large ones late act like a decaying learning rate.
Source: Smith et al. 2017, arXiv:1711.00489.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import BatchMethod, Hyper
from automl.space.ranges import Float


def batch_warmup_choose(places: Tensor, n: int, hyper: Hyper) -> Tensor:
    k, b = places.shape
    start = hyper["start"]
    s = start + (1 - start) * (hyper["progress"] / hyper["full"]).clamp(max=1)
    size = (s * b).round().clamp(min=1).long()
    return places.gather(1, torch.arange(b, device=places.device).expand(k, b) % size)


METHOD = BatchMethod(
    choose=batch_warmup_choose,
    # Down to an eighth of the batch; over the first half of the training at the most.
    ranges={
        "start": Float(0.125, 0.75, log=True, default=0.25),
        "full": Float(0.05, 0.5, default=0.25),
    },
    when="a large batch that stalls at the start",
    source="arXiv:1711.00489",
)
