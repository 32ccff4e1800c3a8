"""How hard a sample is, told from the data alone: what `scored` and `anti` sort by.

    classes   |x - m[y]| - min over c != y of |x - m[c]|,  m[c] the mean of class c
    values    the distance of the target from the median of all targets
    tokens    the mean of -log(share of the token) over the targets

No model is trained for it. For classes it is the margin by which the nearest-mean classifier is
wrong: wrong labels come last, but so does what only a better classifier can tell.
"""

from __future__ import annotations

import torch
from torch import Tensor


def difficulty(x: Tensor, y: Tensor) -> Tensor:
    """Scores [n] of samples x [n, ...] with targets y [n, ...]; higher is harder."""
    if y.is_floating_point():
        return (y - y.median(dim=0).values).abs().flatten(1).mean(dim=1)
    if y.ndim > 1:
        surprise = -(y.flatten().bincount().float() / y.numel()).log()
        return surprise[y].mean(dim=1)
    samples, classes = x.float().flatten(1), int(y.max()) + 1
    count = y.bincount(minlength=classes).clamp_min(1)
    means = samples.new_zeros(classes, samples.shape[1]).index_add_(0, y, samples)
    distance = torch.cdist(samples, means / count[:, None])
    own = distance.gather(1, y[:, None]).squeeze(1)
    others = distance.scatter(1, y[:, None], torch.inf)
    return own - others.amin(dim=1).clamp_max(own.max())
