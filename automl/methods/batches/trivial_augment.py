"""TrivialAugment: one random operation on each image, of random strength.

    x = operation(x, s),  operation and s in [-1, 1] drawn anew for each image

Nothing is left to tune, and in the paper it does as well as searched policies. The operations are
those of rand_augment (`_image_operations.py`).
Source: Mueller and Hutter 2021, arXiv:2103.10158.
"""

from __future__ import annotations

from automl.methods.batches._image_operations import OPERATIONS, augmented
from automl.methods.stages import Batch, BatchMethod, Draws, Hyper


def trivial_augment_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    k, b = batch.x.shape[:2]
    operation = (draws.uniform(b) * OPERATIONS).long()
    s = 2 * draws.uniform(b) - 1
    x = augmented(batch.x.flatten(0, 1), operation.flatten(), s.flatten())
    return Batch(x.unflatten(0, (k, b)), batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=trivial_augment_batch,
    kinds=("image",),
    when="photographs, and no wish to tune",
    source="arXiv:2103.10158",
)
