"""Centralization: take from each unit's gradient its mean over the unit's inputs.

    G_i = G_i - mean(G_i)                   each row of a matrix, each filter of a kernel

The step then keeps the mean of every unit's weights as it is: a constraint that costs one pass
over the memory. It does nothing for biases, norms and embeddings. No hyperparameter.
Source: Yong et al. 2020, arXiv:2004.01461.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform


def centralization_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    for slot in layout.slots:
        if slot.role in ("matrix", "output"):
            part = g[:, slot.offset : slot.offset + slot.numel]
            rows = part.unflatten(1, (slot.shape[0], -1))
            rows.sub_(rows.mean(dim=2, keepdim=True))


METHOD = Transform(
    apply=centralization_transform,
    when="convolutions under SGD; costs nothing",
    source="arXiv:2004.01461",
)
