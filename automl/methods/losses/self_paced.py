"""Self-paced learning: cross-entropy over the samples that are easy for the network by now.

    p = min(1, start + (1 - start)*progress/full)       share of each batch that counts
    v = 1 for the round(p*b) samples of lowest loss, 0 for the others
    loss = v * -log p[target],  the mean over those that count

The network chooses its own curriculum: samples that it finds hard, wrong labels among them, come
late. From the share `full` of the training on it is cross-entropy. All samples are computed, so a
step costs as much as ever. Compare at equal steps; rare classes are often the hard ones and
starve at first.
Source: Kumar, Packer and Koller 2010, "Self-paced learning for latent variable models", NIPS 23,
with the share given, as in later work, in place of a threshold on the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Loss
from automl.space.ranges import Float


def self_paced_loss(output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
    log_p = torch.log_softmax(output, dim=-1)
    value = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return value.flatten(1).mean(dim=1) if value.ndim > 1 else value


def self_paced_weigh(values: Tensor, hyper: Hyper) -> Tensor:
    b, start = values.shape[0], hyper["start"]
    share = (start + (1 - start) * hyper["progress"] / hyper["full"]).clamp(max=1)
    count = (share * b).round().clamp(min=1)
    rank = values.argsort().argsort()  # 0 for the lowest loss
    return (rank < count).to(values.dtype) * b / count


METHOD = Loss(
    value=self_paced_loss,
    weigh=self_paced_weigh,
    needs=("progress",),
    targets=("classes", "tokens"),
    # The paper begins with half of the samples; shares below .3 were not tried.
    ranges={"start": Float(0.3, 0.9, default=0.5), "full": Float(0.2, 0.9, default=0.5)},
    year=2010,
    when="wrong labels among the samples",
    source="NIPS 23, pages 1189-1197",
)
