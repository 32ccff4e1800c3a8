"""Token drop: replace some input tokens by random ones of the same batch.

    x[i] = x of another sample at the same place, with probability p

Targets stay. Other tokens of the corpus, unlike a mask token, need no place in the vocabulary.
Source: Xie et al. 2017, arXiv:1703.02573 (unigram noising).
"""

from __future__ import annotations

import torch

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def token_drop_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    drop = draws.uniform(*batch.x.shape[1:]) < hyper["p"].unsqueeze(-1)
    order = draws.permutation(batch.x.shape[1])
    other = batch.x.gather(1, order[..., None].expand_as(batch.x))
    return Batch(torch.where(drop, other, batch.x), batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=token_drop_batch,
    kinds=("tokens",),
    ranges={"p": Float(0.01, 0.3, log=True, default=0.05)},
    when="a small corpus read many times",
    source="arXiv:1703.02573",
)
