"""EMA: an exponential moving average of the weights is evaluated and kept.

    d = min(1 - forget, (1 + t)/(10 + t))       t = 1, 2, ...
    a = d*a + (1 - d)*w                         a starts at the first weights

The warmed d lets a short training forget its beginning: the average reaches back over about the
last 1/forget steps, or a tenth of the training where that is less. It replaces part of the
learning rate's decay; with a schedule that ends near 0 the gain is small.
Source: Polyak and Juditsky 1992, doi:10.1137/0330046; the warmed decay as in TensorFlow's
ExponentialMovingAverage.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Averaging, Hyper, Layout, State
from automl.space.ranges import Float


def ema_init(w: Tensor, layout: Layout) -> State:
    return {"average": w.clone()}


def ema_update(w: Tensor, state: State, hyper: Hyper, t: Tensor, horizon: Tensor) -> None:
    decay = ((1 + t) / (10 + t)).minimum(1 - hyper["forget"])
    state["average"].lerp_(w, 1 - decay)


def ema_evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
    return state["average"]


METHOD = Averaging(
    init=ema_init,
    update=ema_update,
    evaluated=ema_evaluated,
    # An average over 10 to 10,000 steps; 100 suits trainings of some thousand steps.
    ranges={"forget": Float(1e-4, 0.1, log=True, default=1e-2)},
    year=1992,
    when="a rate that stays high; noisy validation",
    source="doi:10.1137/0330046",
)
