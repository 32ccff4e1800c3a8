"""The sign of collapse: the validation loss grows sharp in the alphas while skips lead.

    sharpness = largest eigenvalue of the Hessian of L_val in all alphas together
    rise      = its last `WINDOW` values are on average 1.3 times those of the `WINDOW` before
    collapse  = a rise while the skip is the strongest candidate on more than half of the edges

Skips win in a mixture because they train faster, not because they serve the derived network; where
that happens the eigenvalue rises first. The alphas to derive from are those of before the rise.

A rise alone is no sign in a short search. There the alphas matter the more the better the weights
become, so that the eigenvalue rises in every search: on digits, in one whose supernet went from .17
to .90 of the digits right and that kept no skip, from 0.018 to 0.41 in 20 epochs, 1.3 times and
more every three epochs for most of it. Hence the second condition, which is ours: where skips do
not lead, nothing is stopped. Published is the ratio alone, of smoothed values five epochs apart,
for searches of 50 epochs.

The eigenvalue is found by Lanczos' method, in `PRODUCTS` products of the Hessian with a vector: on
digits four gave 97 % of it, six all but 1 in 1,000.
Source: Zela et al. 2020, arXiv:1909.09656; factor and window are not checked against its program.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from automl.darts.bilevel import Loss

FACTOR, WINDOW, LEAD = 1.3, 3, 0.5
PRODUCTS = 5


def sharpness(alphas: Sequence[Tensor], valid: Loss, *, products: int = PRODUCTS) -> float:
    """Largest eigenvalue of the Hessian of valid() in the alphas, from below.

    With at least as many products as there are alphas it is exact. The start is drawn alike
    whenever there are as many alphas, so that a search that is taken up sees the same.
    """
    leaves = list(alphas)
    with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
        loss = valid()
    slopes = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    flat = torch.cat([s.reshape(-1) for s in slopes])
    q = torch.randn(len(flat), generator=torch.Generator().manual_seed(0)).to(flat)
    basis: list[Tensor] = []
    images: list[Tensor] = []
    while len(basis) < min(products, len(flat)):
        norm = q.norm()
        if basis and norm <= 1e-6 * images[-1].norm():
            break  # what is spanned is mapped to itself: its eigenvalues are the Hessian's
        basis.append((q / norm).detach())
        row = torch.autograd.grad(
            flat, leaves, basis[-1], retain_graph=True, materialize_grads=True
        )
        images.append(torch.cat([r.reshape(-1) for r in row]))
        q = images[-1]
        for _ in range(2):  # once leaves rounding behind
            for b in basis:
                q = q - (q @ b) * b
    v, hv = torch.stack(basis).double(), torch.stack(images).double()
    seen = v @ hv.T
    return float(torch.linalg.eigvalsh((seen + seen.T) / 2)[-1])


def collapsed_at(values: Sequence[float], leads: Sequence[float]) -> int | None:
    """Index of the last value before the rise; None while nothing shows.

    Args:
        values: the sharpness, by epoch.
        leads: share of the edges on which the skip is the strongest candidate, by epoch.

    >>> rise = [1.0] * 5 + [2.0]
    >>> collapsed_at(rise, [1.0] * 6), collapsed_at(rise, [0.5] * 6)
    (2, None)
    """
    for end in range(2 * WINDOW, len(values) + 1):
        late = sum(values[end - WINDOW : end]) / WINDOW
        early = sum(values[end - 2 * WINDOW : end - WINDOW]) / WINDOW
        if leads[end - 1] > LEAD and early > 0 and late > FACTOR * early:
            return end - WINDOW - 1
    return None
