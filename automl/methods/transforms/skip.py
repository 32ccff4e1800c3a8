"""Skip: let some gradients not count, for three reasons.

    n = |g| over all weights of the member;  recent = the last 128 such n
    skip if n > spike*median(recent), or n is not finite        a spike
    skip with probability p                                     at random
    skip if the share of recent below n is less than easy       an easy batch
    g = 0 where skipped

Spikes and easy batches are told from the 16th step on. p = 0 and easy = 0 switch those two off.
Skipping means a gradient of 0: the optimizer still takes its step, carried by momentum and
shrunk by decay, and the schedule goes on. An easy batch is told by its gradient, which is there
already, and not by its loss; so its backward pass is not saved.
Source: spikes as in Chowdhery et al. 2022, arXiv:2204.02311, who leave out the batches around
them; easy batches: Katharopoulos and Fleuret 2018, arXiv:1803.00942 (importance by gradient norm).
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float

_SKIP_RECENT = 128
_SKIP_FROM = 16


def skip_init(w: Tensor, layout: Layout) -> State:
    return {"recent": torch.zeros_like(w[:, :1]).repeat(1, _SKIP_RECENT)}


def skip_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    recent, place = state["recent"], torch.arange(_SKIP_RECENT, device=g.device)
    n = torch.linalg.vector_norm(g, dim=1, keepdim=True)
    known = place < t - 1
    count = (t - 1).clamp(1, _SKIP_RECENT)
    ordered = recent.masked_fill(~known, torch.inf).sort(dim=1).values
    median = ordered.gather(1, ((count - 1) / 2).long())
    lower = ((recent < n) & known).sum(1, keepdim=True) / count
    told = t > _SKIP_FROM
    skipped = (told & ((n > hyper["spike"] * median) | (lower < hyper["easy"]))) | ~n.isfinite()
    skipped |= draws.uniform(1).to(g.dtype) < hyper["p"]
    g.masked_fill_(skipped, 0)
    # What is not finite leaves the median as it is; a lasting rise of the norms is learned.
    n = torch.where(n.isfinite(), n, torch.where(told, median, torch.zeros_like(n)))
    recent.copy_(torch.where(place == (t - 1) % _SKIP_RECENT, n, recent))


METHOD = Transform(
    init=skip_init,
    apply=skip_transform,
    # A tenfold norm is a spike by anyone's reading, a threefold one happens in sound trainings.
    ranges={
        "spike": Float(3.0, 20.0, log=True, default=10.0),
        "p": Float(0.0, 0.5, default=0.0),
        "easy": Float(0.0, 0.5, default=0.0),
    },
    when="broken batches among the data",
    source="arXiv:2204.02311",
)
