"""Masking: each component of the gradient counts with probability 1 - p, others anew every step.

    m ~ Bernoulli(1 - p), elementwise
    g = g*m/(1 - p)                         so that its mean stays

Only part of the network learns from a batch: noise that grows with the gradient itself. Through
momentum every weight moves all the same.
Source: Xu et al. 2021, arXiv:2109.05687 (Child-Tuning, task-free form).
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float


def masking_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    p = hyper["p"]
    hidden = draws.uniform(layout.size).to(g.dtype) < p
    g.mul_(1 / (1 - p)).masked_fill_(hidden, 0)


METHOD = Transform(
    apply=masking_transform,
    # The paper keeps .2 to .4 of the components when it fine-tunes language models.
    ranges={"p": Float(0.05, 0.8, default=0.3)},
    when="fine-tuning on few samples",
    source="arXiv:2109.05687",
)
