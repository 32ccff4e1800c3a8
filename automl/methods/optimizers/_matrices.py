"""Weight matrices of one shape, of all layers and members, as one batch; their eigenvectors.

A kernel OIHW counts as the matrix O x IHW. Shapes: k members, n layers of one shape [r, c].
"""

from __future__ import annotations

import torch
from torch import Tensor

from automl.methods.stages import Layout, Slot

LARGEST_SIDE = 2048  # of a matrix that gets a factor; above, the cube of it costs too much


def matrix_groups(layout: Layout) -> dict[tuple[int, int], list[Slot]]:
    """Slots with ndim >= 2 by their matrix shape (r, c)."""
    groups: dict[tuple[int, int], list[Slot]] = {}
    for slot in layout.slots:
        if len(slot.shape) >= 2:
            groups.setdefault((slot.shape[0], slot.numel // slot.shape[0]), []).append(slot)
    return groups


def matrices_in(flat: Tensor, slots: list[Slot], shape: tuple[int, int]) -> Tensor:
    """Copies of the slots' matrices in flat [k, p] as [k, n, r, c]."""
    parts = [flat[:, s.offset : s.offset + s.numel].view(-1, 1, *shape) for s in slots]
    return torch.cat(parts, 1)


def put_matrices(flat: Tensor, slots: list[Slot], x: Tensor) -> None:
    """Write x [k, n, r, c] to the slots' places in flat [k, p]."""
    for i, s in enumerate(slots):
        flat[:, s.offset : s.offset + s.numel] = x[:, i].flatten(1)


def members_where(due: Tensor) -> Tensor:
    """Indices of the members for which due [k, 1] holds."""
    return due[:, 0].nonzero()[:, 0]


def eigenbasis(a: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [..., d], rising, and eigenvectors [..., d, d] of symmetric a.

    A matrix that is not finite counts as 0: LAPACK would refuse the whole batch, and with it the
    members that are well. The diverged one is seen by its gradient.
    """
    a = torch.where(a.isfinite().all(-1, keepdim=True).all(-2, keepdim=True), a, 0)
    scale = a.abs().amax((-2, -1), keepdim=True).clamp_min(1e-30)
    values, vectors = torch.linalg.eigh(a / scale)
    return values * scale[..., 0], vectors
