"""None: the gradient goes to the optimizer as it is.

    g = g

Source: the identity.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform


def none_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    pass


METHOD = Transform(apply=none_transform, when="the default", source="the identity")
