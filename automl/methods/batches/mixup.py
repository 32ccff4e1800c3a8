"""Mixup: train on weighted means of pairs of samples.

    lam ~ Beta(alpha, alpha), one a member and step
    x = lam*x + (1 - lam)*x[p],  p a permutation of the batch
    loss = lam*loss(y) + (1 - lam)*loss(y[p])

Training loss and accuracy become meaningless as such; validation is on whole samples. It wants
longer training, and less of other regularization.
Source: Zhang et al. 2017, arXiv:1710.09412.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def mixup_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    lam = draws.beta(hyper["alpha"]).to(batch.x.dtype)
    order = draws.permutation(batch.x.shape[1])
    other = mixup_shuffled(batch.x, order)
    x = torch.lerp(other, batch.x, lam.view(-1, *[1] * (batch.x.ndim - 1)))
    weight = lam.expand(-1, batch.x.shape[1])
    return Batch(x, batch.y, mixup_shuffled(batch.y, order), weight)


def mixup_shuffled(a: Tensor, order: Tensor) -> Tensor:
    """a [k, b, ...] with each member's samples in its own order [k, b]."""
    index = order.view(*order.shape, *[1] * (a.ndim - 2)).expand_as(a)
    return a.gather(1, index)


METHOD = BatchMethod(
    apply=mixup_batch,
    kinds=("vector", "image"),
    # .2 for ImageNet, 1 for CIFAR in the paper.
    ranges={"alpha": Float(0.05, 1.0, log=True, default=0.2)},
    when="few samples, noisy labels, probabilities that matter",
    source="arXiv:1710.09412",
)
