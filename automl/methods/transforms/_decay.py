"""What a decay acts on: which weights count as they are, and which where a switch is on."""

from __future__ import annotations

from torch import Tensor

from automl.methods.stages import Hyper, Slot


def decay_share(slot: Slot, hyper: Hyper, share: Tensor) -> Tensor:
    """`share` for matrices; for embeddings and vectors, too, where their switch is 1; else 0."""
    if slot.role == "vector":
        return share * hyper["vectors"]
    return share * hyper["embeddings"] if slot.role == "embedding" else share
