"""Cutout: hide one square of each image.

    x = 0 inside a square of side `share` of the image's, around a random pixel

The square may lie partly outside. 0 is the mean of normalized images.
Source: DeVries and Taylor 2017, arXiv:1708.04552.
"""

from __future__ import annotations

import torch

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def cutout_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    _, b, _, h, w = batch.x.shape
    centre = draws.uniform(b, 2)
    half = hyper["share"].unsqueeze(-1) / 2
    rows = (torch.arange(h, device=batch.x.device) + 0.5) / h
    columns = (torch.arange(w, device=batch.x.device) + 0.5) / w
    in_row = (rows - centre[..., :1]).abs() < half
    in_column = (columns - centre[..., 1:]).abs() < half
    hidden = (in_row[..., :, None] & in_column[..., None, :])[:, :, None]
    return Batch(batch.x.masked_fill(hidden, 0.0), batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=cutout_batch,
    kinds=("image",),
    ranges={"share": Float(0.1, 0.6, default=0.5)},  # 16 of 32 pixels for CIFAR-10 in the paper
    when="small images, small networks",
    source="arXiv:1708.04552",
)
