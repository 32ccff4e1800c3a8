"""Swap noise: replace some cells of a table by those of other rows of the batch.

    x[i, j] = x[p(i), j] with probability p, each cell for itself;  p(i) a random other order

Every value stays one that its column really takes, unlike after feature_noise. A category is
one-hot, and its columns are swapped one by one: a row may then name two categories or none.
Targets stay.
Source: Bahri et al. 2021, arXiv:2106.15147 (SCARF's corruption), after M. Jahrer's swap noise in
a Kaggle competition.
"""

from __future__ import annotations

import torch

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def swap_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    swapped = draws.uniform(*batch.x.shape[1:]) < hyper["p"].unsqueeze(-1)
    order = draws.permutation(batch.x.shape[1])
    other = batch.x.gather(1, order[..., None].expand_as(batch.x))
    return Batch(torch.where(swapped, other, batch.x), batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=swap_batch,
    kinds=("vector",),
    # .07 and .15 won the competition, as noise of an autoencoder; .6 is SCARF's, for pretraining.
    ranges={"p": Float(0.01, 0.3, log=True, default=0.07)},
    when="tables with categories or odd distributions",
    source="arXiv:2106.15147",
)
