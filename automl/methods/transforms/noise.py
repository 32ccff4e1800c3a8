"""Noise: add Gaussian noise to the gradient, less and less of it.

    g = g + sigma*n,  n standard normal
    sigma^2 = eta/t^0.55                    t = 1, 2, ...

Early on it shakes the weights out of poor places; it helped very deep networks that plain SGD
could not start. With Adam it raises v, and so lowers the steps of weights with small gradients.
Source: Neelakantan et al. 2015, arXiv:1511.06807.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float


def noise_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    sigma = (hyper["eta"] / t**0.55).sqrt()
    g.addcmul_(draws.normal(layout.size).to(g.dtype), sigma)


METHOD = Transform(
    apply=noise_transform,
    # .01, .3 and 1 in the paper, for sums of gradients; means over a batch bear less.
    ranges={"eta": Float(1e-8, 1e-1, log=True, default=1e-5)},
    when="plain SGD that gets stuck",
    source="arXiv:1511.06807",
)
