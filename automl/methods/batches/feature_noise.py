"""Feature noise: Gaussian noise on standardized features.

    x = x + sigma*n,  n standard normal

For small sigma it acts like an L2 penalty on the gradient of the output by the input.
Source: Bishop 1995, doi:10.1162/neco.1995.7.1.108.
"""

from __future__ import annotations

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def feature_noise_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    noise = draws.normal(*batch.x.shape[1:]).to(batch.x.dtype)
    sigma = hyper["sigma"].view(-1, *[1] * (batch.x.ndim - 1))
    return Batch(batch.x + sigma * noise, batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=feature_noise_batch,
    kinds=("vector", "image"),
    ranges={"sigma": Float(1e-3, 0.3, log=True, default=0.05)},
    year=1995,
    when="tables of numbers, few rows",
    source="doi:10.1162/neco.1995.7.1.108",
)
