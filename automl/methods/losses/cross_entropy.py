"""Cross-entropy with label smoothing, for classes and for next tokens.

    p = softmax(output)
    loss = -(1 - s)*log p[target] - s * mean over classes of log p

With s > 0 the best answer is no longer certainty, so the loss does not go to 0 and values of
different s do not compare: evaluation is always at s = 0.
Source: Szegedy et al. 2016, arXiv:1512.00567 (label smoothing).
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Loss
from automl.space.ranges import Float


def cross_entropy_loss(output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
    log_p = torch.log_softmax(output, dim=-1)
    picked = log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    s = hyper["smoothing"]
    value = -(1 - s) * picked - s * log_p.mean(dim=-1)
    return value.flatten(1).mean(dim=1) if value.ndim > 1 else value


METHOD = Loss(
    value=cross_entropy_loss,
    targets=("classes", "tokens"),
    # .1 in the paper; the baseline does without.
    ranges={"smoothing": Float(0.0, 0.2, default=0.0)},
    when="classes and tokens; the default",
    source="arXiv:1512.00567",
)
