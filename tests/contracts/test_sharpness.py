"""Gradients that look around, on a quadratic where every pass can be written down.

f = w' H w / 2 with H = diag(1, 4, 9), so the gradient at w + e is H (w + e) exactly.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl.methods.stages import Gradient, Layout, hyper_tensors
from automl.registry import family

Vector = NDArray[np.float64]
H = np.array([1.0, 4.0, 9.0])
W = np.array([1.0, -2.0, 0.5])
LAYOUT = Layout((), 3, 3)


def found(name: str, w: Vector = W, **hyper: float) -> Vector:
    """The method's gradient in a first step."""
    return walked(name, [w], **hyper)[0]


def walked(name: str, path: list[Vector], **hyper: float) -> list[Vector]:
    """The method's gradients at the points of a path, in steps 1, 2, ..."""
    method = family("gradient").get(name)
    assert isinstance(method, Gradient)
    curvature = torch.tensor(H)[None]
    row = torch.zeros(1, 3, dtype=torch.float64)

    def closure(statistics: bool = True) -> tuple[Tensor, Tensor]:
        return (curvature * row**2).sum(1) / 2, curvature * row

    defaults = {n: r.default for n, r in method.ranges.items()}
    tensors = hyper_tensors([{**defaults, "factor": 1.0, **hyper}], dtype=row.dtype)
    state, out = method.init(row, LAYOUT), []
    for t, w in enumerate(path, start=1):
        row.copy_(torch.tensor(w)[None])
        _, g = method.compute(closure, row, state, tensors, torch.full((1, 1), float(t)))
        out.append(g[0].numpy().copy())
    return out


def unit(x: Vector) -> Vector:
    return x / np.linalg.norm(x)


def at_right_angles(x: Vector, y: Vector) -> Vector:
    return x - (x @ unit(y)) * unit(y)


def test_asam_by_hand() -> None:
    # f = (x1^2 + 4 x2^2)/2 at (1, 2), eta 0: g = (1, 8), T g = (1, 16), T^2 g = (1, 32);
    # a step of .1 along the gradient at w + .1*(1, 32)/sqrt(257).
    g = found("asam", np.array([1.0, 2.0, 0.0]), rho=0.1, eta=0.0)
    after = np.array([1.0, 2.0]) - 0.1 * g[:2]
    assert after == pytest.approx([0.899376, 1.120156], abs=1e-6)


def test_asams_ball_ignores_a_rescaling_of_the_weights() -> None:
    # w -> w*s with H -> H/s^2 is the same function; the relative perturbation must be the same.
    stretched = np.abs(W) * (H * W)
    e = 0.5 * np.abs(W) * stretched / np.linalg.norm(stretched)
    assert found("asam", rho=0.5, eta=0.0) == pytest.approx(H * (W + e))
    s = np.array([10.0, 0.1, 3.0])
    scaled = np.abs(W * s) * (H / s**2 * W * s)
    assert 0.5 * np.abs(W * s) * scaled / np.linalg.norm(scaled) == pytest.approx(e * s)


def test_gsam_turns_against_what_stands_at_right_angles() -> None:
    g1 = H * W
    g2 = H * (W + 0.3 * unit(g1))
    v = at_right_angles(g1, g2)
    assert found("gsam", rho=0.3, alpha=0.4) == pytest.approx(g2 - 0.4 * v)
    assert found("gsam", rho=0.3, alpha=0.0) == pytest.approx(found("sam", rho=0.3))
    assert found("gsam", rho=0.3, alpha=0.4, factor=0.0) == pytest.approx(g1)


def test_looksam_reuses_the_orthogonal_part_for_four_steps() -> None:
    path = [W * 0.9**i for i in range(6)]
    seen = walked("looksam", path, rho=0.1, alpha=0.7)
    for i in (0, 5):
        assert seen[i] == pytest.approx(found("sam", path[i], rho=0.1))
    gv = at_right_angles(seen[0], H * W)
    for i in (1, 2, 3, 4):
        g = H * path[i]
        assert seen[i] == pytest.approx(g + 0.7 * np.linalg.norm(g) * unit(gv))


def test_penalty_adds_the_gradient_of_the_gradients_norm() -> None:
    # lambda = a*r; on a quadratic the difference is exact: d|g|/dw = H g/|g|.
    g = H * W
    assert found("gradient_norm_penalty", r=0.1, a=0.6) == pytest.approx(g + 0.06 * H * unit(g))
    assert found("gradient_norm_penalty", r=0.1, a=1.0) == pytest.approx(found("sam", rho=0.1))


def test_gam_by_its_four_gradients() -> None:
    rho, norm, beta0, beta1, gamma = 0.02, 0.2, 0.4, 0.3, 0.05
    g0 = H * W
    growth = H * unit(g0)  # g1 - g0 is rho times it
    g1 = g0 + rho * growth
    w2 = W + norm * unit(growth)
    g2 = H * w2
    g3 = H * (w2 + rho * unit(g2))
    n = beta1 * g1 + (1 - beta1) * g3
    v = at_right_angles(g0 + (1 - beta0) * g2, n)
    values = {"rho": rho, "rho_norm": norm, "beta0": beta0, "beta1": beta1, "gamma": gamma}
    assert found("gam", W, **values) == pytest.approx(n - gamma * v)
