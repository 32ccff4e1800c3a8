"""Clip by value: no component of the gradient goes beyond `value`, either way.

    g = min(max(g, -value), value)          elementwise

It bends the gradient's direction towards a diagonal; clip_norm does not. A gradient that is not
a number stays so: the trial is then seen to diverge.
Source: Mikolov 2012, his doctoral thesis at Brno; torch.nn.utils.clip_grad_value_.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float


def clip_value_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    g.clamp_(min=-hyper["value"], max=hyper["value"])


METHOD = Transform(
    apply=clip_value_transform,
    # Components of mean gradients lie mostly below .1: smaller limits make a sign of them.
    ranges={"value": Float(1e-3, 1.0, log=True, default=0.1)},
    year=2012,
    when="single components that explode",
    source="torch.nn.utils.clip_grad_value_",
)
