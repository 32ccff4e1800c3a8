"""Cross-entropy in which rare classes count more.

    p = softmax(output)
    loss = -v[target]*log p[target]
    v[c] = share[c]^-balance / sum over classes of share^(1 - balance)

share[c] is that of class c in the training data. balance 0 is cross-entropy, 1 gives all classes
the same say; the mean weight over the data is 1 in between. It trades accuracy for the rare
classes' recall: with a metric that counts samples it seldom pays, with one that counts classes
(balanced accuracy, macro F1) it does. Evaluation is by plain cross-entropy.
Source: King and Zeng 2001, doi:10.1093/oxfordjournals.pan.a004868; torch.nn.CrossEntropyLoss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Loss
from automl.space.ranges import Float


def class_weights_loss(output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
    log_p = torch.log_softmax(output, dim=-1)
    picked = log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    shares = hyper["shares"].to(output.dtype)
    v = torch.where(shares > 0, shares, 1.0) ** -hyper["balance"]
    v = v / (shares * v).sum()
    value = -v.index_select(0, target.flatten()).view_as(picked) * picked
    return value.flatten(1).mean(dim=1) if value.ndim > 1 else value


METHOD = Loss(
    value=class_weights_loss,
    needs=("shares",),
    targets=("classes", "tokens"),
    ranges={"balance": Float(0.0, 1.0, default=0.5)},
    year=2001,
    when="rare classes that the metric counts in full",
    source="doi:10.1093/oxfordjournals.pan.a004868",
)
