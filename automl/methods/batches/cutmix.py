"""CutMix: paste a box of one image into another, and share the label by area.

    lam ~ Beta(alpha, alpha);  a box of area 1 - lam around a random centre, cut at the border
    x = x[p] inside the box, x outside;  lam = 1 - true area of the box
    loss = lam*loss(y) + (1 - lam)*loss(y[p])

One box a member and step. As with mixup, training loss and accuracy mean little.
Source: Yun et al. 2019, arXiv:1905.04899.
"""

from __future__ import annotations

import torch

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def cutmix_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    k, b, _, h, w = batch.x.shape
    lam = draws.beta(hyper["alpha"])
    order = draws.permutation(b)
    side = (1 - lam).sqrt()
    centre = draws.uniform(2)
    rows = (torch.arange(h, device=batch.x.device) + 0.5) / h
    columns = (torch.arange(w, device=batch.x.device) + 0.5) / w
    in_row = (rows[None] - centre[:, :1]).abs() < side / 2
    in_column = (columns[None] - centre[:, 1:]).abs() < side / 2
    box = (in_row[:, :, None] & in_column[:, None, :])[:, None, None]
    index = order.view(k, b, 1, 1, 1).expand_as(batch.x)
    x = torch.where(box, batch.x.gather(1, index), batch.x)
    weight = 1 - box.flatten(1).to(batch.x.dtype).mean(dim=1, keepdim=True)
    return Batch(x, batch.y, batch.y.gather(1, order), weight.expand(k, b))


METHOD = BatchMethod(
    apply=cutmix_batch,
    kinds=("image",),
    ranges={"alpha": Float(0.2, 2.0, log=True, default=1.0)},  # 1 in the paper
    when="images, long trainings, many classes alike",
    source="arXiv:1905.04899",
)
