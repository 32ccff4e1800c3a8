"""Focal loss: cross-entropy that counts a sample less the surer the network is of its class.

    p = softmax(output)[target]
    loss = -(1 - p)^gamma * log p

gamma 0 is cross-entropy. With many easy samples of one class and few of another the easy ones no
longer drown the rest; probabilities come out less sure, which often calibrates them. Evaluation
is by plain cross-entropy.
Source: Lin et al. 2017, arXiv:1708.02002, without its class weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Hyper, Loss
from automl.space.ranges import Float


def focal_loss(output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
    log_p = torch.log_softmax(output, dim=-1)
    picked = log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    # 1 - p without cancellation; above 0, where the power has a slope for every gamma.
    doubt = (-torch.expm1(picked)).clamp_min(1e-12)
    value = -(doubt ** hyper["gamma"]) * picked
    return value.flatten(1).mean(dim=1) if value.ndim > 1 else value


METHOD = Loss(
    value=focal_loss,
    targets=("classes", "tokens"),
    ranges={"gamma": Float(0.0, 5.0, default=2.0)},  # 0 to 5 in the paper, 2 its best
    when="many easy samples of one class, few of another",
    source="arXiv:1708.02002",
)
