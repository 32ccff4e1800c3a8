"""The sign of collapse: the validation loss grows sharp in the alphas.

    sharpness = largest eigenvalue of the Hessian of L_val in all alphas together
    stop when the mean of its last `window` values exceeds 1.3 times that of the `window` before

Skips win in a mixture because they train faster, not because they serve the derived network; where
that happens the eigenvalue rises first. The alphas to derive from are those of before the rise.
It is no proof, and not watched by default. Measured on digits: in a search of 30 epochs that kept
not one skip it rose steadily from 0.016 to 0.377, so that the rule stopped it at epoch 6; and where
skips did lead, they led from the first epochs and lost ground later, so that the alphas of before
the rise held more skips. The bound on skips (`derive.py`) is what protects there.
Source: Zela et al. 2020, arXiv:1909.09656; factor and window are not checked against its program.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from automl.darts.bilevel import Loss

FACTOR, WINDOW = 1.3, 3


def sharpness(alphas: Sequence[Tensor], valid: Loss) -> float:
    """Largest eigenvalue of the Hessian of valid() in the alphas, exactly, row by row."""
    leaves = list(alphas)
    slopes = torch.autograd.grad(valid(), leaves, create_graph=True, materialize_grads=True)
    flat = torch.cat([s.reshape(-1) for s in slopes])
    rows = []
    for slope in flat:
        row = torch.autograd.grad(slope, leaves, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([r.reshape(-1) for r in row]))
    hessian = torch.stack(rows).double()
    return float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])


def collapsed_at(values: Sequence[float]) -> int | None:
    """Index of the last value before the rise; None while there is none.

    >>> collapsed_at([1.0] * 6), collapsed_at([1.0] * 5 + [2.0])
    (None, 2)
    """
    for end in range(2 * WINDOW, len(values) + 1):
        late = sum(values[end - WINDOW : end]) / WINDOW
        early = sum(values[end - 2 * WINDOW : end - WINDOW]) / WINDOW
        if early > 0 and late > FACTOR * early:
            return end - WINDOW - 1
    return None
