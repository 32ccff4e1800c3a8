"""Plain: the gradient of the loss at the weights, by one forward and one backward pass.

    loss, g = L(w), dL/dw

Source: Rumelhart, Hinton and Williams 1986, doi:10.1038/323533a0.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Closure, Gradient, Hyper, State


def plain_gradient(
    closure: Closure, w: Tensor, state: State, hyper: Hyper, t: Tensor
) -> tuple[Tensor, Tensor]:
    return closure()


METHOD = Gradient(
    compute=plain_gradient,
    passes=1,
    year=1986,
    when="the default; all others cost passes",
    source="doi:10.1038/323533a0",
)
