"""AGC: clip the gradient of each unit by the size of that unit's weights.

    for each row i of a matrix (each filter of a kernel):
    G_i = G_i * min(1, clip*max(|W_i|, 1e-3)/|G_i|)

A step along a clipped gradient with lr changes a unit by at most the share lr*clip, which is what
batch norm ensures in another way: it let networks without norms train at large batches. The
output layer, biases and norms are left alone, as in the paper for the first of them.
Source: Brock et al. 2021, arXiv:2102.06171.
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Draws, Hyper, Layout, State, Transform
from automl.space.ranges import Float

_AGC_LEAST = 1e-3  # size of a unit's weights that counts at least, so that zeros can grow


def agc_transform(
    g: Tensor, w: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout, draws: Draws
) -> None:
    clip = hyper["clip"].unsqueeze(2)
    for slot in layout.slots:
        if slot.role in ("output", "vector"):
            continue
        part = slice(slot.offset, slot.offset + slot.numel)
        weights = w[:, part].unflatten(1, (slot.shape[0], -1))
        rows = g[:, part].unflatten(1, (slot.shape[0], -1))
        limit = clip * _agc_length(weights).clamp_min(_AGC_LEAST)
        rows.mul_((limit / _agc_length(rows).clamp_min(1e-12)).clamp_max(1))


def _agc_length(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=2, keepdim=True)  # type: ignore[no-any-return]


METHOD = Transform(
    apply=agc_transform,
    # .01 for batches up to 4096 in the paper, less for larger; .3 hardly ever clips.
    ranges={"clip": Float(1e-3, 0.3, log=True, default=0.01)},
    when="networks without norms, large batches",
    source="arXiv:2102.06171",
)
