"""Promises of every activation, and the verified figures of the fractal ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from automl.methods.activations._weierstrass import weierstrass_series
from automl.methods.activations.weierstrass_relu import weierstrass_relu
from automl.methods.activations.weierstrass_tanh import weierstrass_tanh
from automl.methods.architectures.mlp import mlp
from automl.methods.stages import Activation, Shape
from automl.registry import family
from automl.tasks.digits import load_digits_tensors

NAMES = family("activation").names()


def activation(name: str) -> Activation:
    method = family("activation").get(name)
    assert isinstance(method, Activation)
    return method


def grid(count: int = 401) -> Tensor:
    return torch.linspace(-3, 3, count, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3, 3)])
def test_an_activation_keeps_the_shape_and_passes_a_gradient(
    name: str, shape: tuple[int, ...]
) -> None:
    made = activation(name).make(1)
    lanes = getattr(made, "lanes", 1)
    wide = torch.randn(shape[0], lanes * shape[1], *shape[2:], requires_grad=True)
    out = made(wide)
    assert out.shape == shape
    (slope,) = torch.autograd.grad(out.sum(), wide)
    assert torch.isfinite(slope).all()
    assert slope.abs().sum() > 0


def test_the_series_at_zero_and_its_tail() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(weierstrass_tanh(zero, terms=60), zero + 1 / 1.5)
    x = grid()
    assert (weierstrass_tanh(x, terms=20) - weierstrass_tanh(x, terms=100)).abs().max() < 1e-5


def test_the_waves_are_bounded_in_slope_where_a_times_b_is_below_one() -> None:
    x = grid(20001)

    def steepest(y: Tensor) -> float:
        return float((y.diff() / x.diff()).abs().max())

    assert abs(steepest(weierstrass_tanh(x, terms=5)) - 3.15) < 0.02
    assert abs(steepest(weierstrass_tanh(x, terms=20)) - 4.08) < 0.02
    assert 10 < steepest(weierstrass_relu(x)) < 45


def test_the_derivative_of_the_series_is_the_analytic_one() -> None:
    x = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: weierstrass_series(v, 0.5, 1.5, 8), (x,))
    assert torch.autograd.gradgradcheck(lambda v: weierstrass_series(v, 0.5, 1.5, 8), (x,))


def test_the_series_can_be_vectorized_as_packs_need_it() -> None:
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slopes = vmap(grad(lambda row: weierstrass_series(row, 0.5, 1.5, 8).sum()))(x)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(weierstrass_series(leaf, 0.5, 1.5, 8).sum(), leaf)
    torch.testing.assert_close(slopes, wanted)


def learned(name: str) -> float:
    """Accuracy on digits after 10 epochs of 64-64-10."""
    x, y = load_digits_tensors()
    shape = Shape("image", (1, 8, 8), 10, "classes")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        order = torch.randperm(len(x))
        held, used = order[:400], order[400:]
        made = activation(name).make
        net = mlp(shape, width=64, depth=1, activation=made, norm="none", dropout=0.0)
        adam = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(10):
            for index in used[torch.randperm(len(used))].split(64):
                adam.zero_grad()
                torch.nn.functional.cross_entropy(net(x[index]), y[index]).backward()
                adam.step()
    return float((net(x[held]).argmax(1) == y[held]).double().mean())


def test_digits_are_learned_as_well_as_with_relu() -> None:
    least = learned("relu") - 0.02
    assert least > 0.9
    assert all(learned(name) > least for name in ("weierstrass_tanh", "swiglu", "mish"))
