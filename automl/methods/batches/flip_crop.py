"""Flip and crop: mirror images at random and move them by a few pixels.

    x = x mirrored left to right      with probability `flip`, each sample
    x = x moved by up to `share` of its side, each way, zeros coming in

The default augmentation of natural images. Wrong where left and right differ (digits, text):
there set `flip` to 0.
Source: Krizhevsky et al. 2012 (flips); He et al. 2015, arXiv:1512.03385 (crops of padded images).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def flip_crop_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    x = batch.x
    k, b, c, h, w = x.shape
    flip = draws.uniform(b) < hyper["flip"]
    move = (2 * draws.uniform(b, 2) - 1) * hyper["share"].view(k, 1, 1)
    # One pixel of zeros around each image stands for all that lies outside.
    rows = torch.arange(1, h + 1, device=x.device) + (move[..., :1] * h).round().long()
    columns = torch.arange(1, w + 1, device=x.device) + (move[..., 1:] * w).round().long()
    columns = torch.where(flip[..., None], w + 1 - columns, columns).clamp_(0, w + 1)
    index = rows.clamp_(0, h + 1)[..., :, None] * (w + 2) + columns[..., None, :]
    index = index.view(k, b, 1, h * w).expand(k, b, c, h * w)
    moved = F.pad(x, (1, 1, 1, 1)).flatten(3).gather(3, index).view(k, b, c, h, w)
    return Batch(moved, batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=flip_crop_batch,
    kinds=("image",),
    # 4 of 32 pixels is the custom for CIFAR: a share of .125.
    ranges={"flip": Float(0.0, 0.5, default=0.5), "share": Float(0.0, 0.25, default=0.125)},
    when="photographs; the first augmentation to try",
    source="arXiv:1512.03385",
)
