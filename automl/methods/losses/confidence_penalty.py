"""Confidence penalty: cross-entropy less a share of the output's entropy.

    p = softmax(output)
    loss = -log p[target] - beta*H,  H = -sum over classes of p*log p

Like label smoothing it keeps the network from certainty, but asks for doubt among the likely
classes only and not for a uniform rest. The loss may be negative; evaluation is by plain
cross-entropy.
Source: Pereyra et al. 2017, arXiv:1701.06548.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Loss
from automl.space.ranges import Float


def confidence_penalty_loss(output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
    log_p = torch.log_softmax(output, dim=-1)
    picked = log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_p.exp() * log_p).sum(dim=-1)
    value = -picked - hyper["beta"] * entropy
    return value.flatten(1).mean(dim=1) if value.ndim > 1 else value


METHOD = Loss(
    value=confidence_penalty_loss,
    targets=("classes", "tokens"),
    # .1 for images in the paper; its 2 for words, and anything above .5, was not tried here.
    ranges={"beta": Float(0.01, 0.5, log=True, default=0.1)},
    when="overconfident probabilities",
    source="arXiv:1701.06548",
)
