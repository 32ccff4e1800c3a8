"""RandAugment: `n` random operations on each image, one after the other, all of one strength.

    n times:  x = operation(x, +-m),  operation and sign drawn anew for each image

The operations turn, shear, move, and change color and light: their list and what they do at
strength 1 is in `_image_operations.py`. Two numbers replace a learned policy. Wrong where
direction or color tells classes apart (digits turn into others at large m).
Source: Cubuk et al. 2019, arXiv:1909.13719.
"""

from __future__ import annotations

import torch

from automl.methods.batches._image_operations import OPERATIONS, augmented
from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float, Int

_RAND_AUGMENT_MOST = 3


def rand_augment_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    k, b = batch.x.shape[:2]
    x = batch.x.flatten(0, 1)
    # All rounds are drawn whatever n, so that a member's draws do not depend on its pack.
    operation = (draws.uniform(_RAND_AUGMENT_MOST, b) * OPERATIONS).long()
    sign = torch.where(draws.uniform(_RAND_AUGMENT_MOST, b) < 0.5, -1.0, 1.0)
    for i in range(int(hyper["n"].max())):
        chosen = torch.where(hyper["n"] > i, operation[:, i], 0)
        x = augmented(x, chosen.flatten(), (sign[:, i] * hyper["m"]).flatten())
    return Batch(x.unflatten(0, (k, b)), batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=rand_augment_batch,
    kinds=("image",),
    # n 1 to 3, and 5 to 15 of 30 in the paper, growing with the network.
    ranges={"n": Int(1, 3, default=2), "m": Float(0.1, 1.0, default=0.3)},
    when="photographs, long trainings",
    source="arXiv:1909.13719",
)
