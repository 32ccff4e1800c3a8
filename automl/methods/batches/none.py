"""None: samples as they are.

    x = x;  y = y

Source: the baseline that augmentation is compared with.
"""

from __future__ import annotations

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper


def none_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    return batch


METHOD = BatchMethod(
    apply=none_batch, when="many samples for a small network", source="the baseline"
)
