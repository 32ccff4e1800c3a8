"""Optimizers that look at the loss more than once a step, and the looks that they are given."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from automl.methods.stages import Batch, LayerLook, Layout, Optimizer, Slot, hyper_tensors
from automl.registry import family
from automl.train.looks import BatchLooks
from automl.train.packed import layout_of

from .tiny_problem import OwnDraws, Run, data, network, values_at, weights


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def optimizer(name: str) -> Optimizer:
    method = family("optimizer").get(name)
    assert isinstance(method, Optimizer)
    return method


def tensors(name: str, **given: float) -> dict[str, Tensor]:
    return hyper_tensors([values_at({"optimizer": name}) | given], dtype=torch.float64)


# The looks --------------------------------------------------------------------------------------


class Image(nn.Module):
    """A convolution in front, batch norm and an in-place ReLU behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True),
            nn.Flatten(), nn.Linear(12, 4, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def look(module: nn.Module, x: Tensor, y: Tensor) -> tuple[BatchLooks, Tensor, Layout]:
    """Looks of one member with squared error or cross-entropy, its weights [1, p] and layout."""
    layout = layout_of(module)
    named = dict(module.named_parameters())
    w = torch.cat([named[s.name].detach().reshape(1, -1) for s in layout.slots], 1)
    for slot in layout.slots:
        named[slot.name].data = layout.view(w, slot)[0]
    loss = nn.functional.mse_loss if y.is_floating_point() else nn.functional.cross_entropy
    looks = BatchLooks(
        [module],
        [w[0]],
        layout,
        Batch(x[None], y[None]),
        loss=lambda k, output, y, y2, weight: loss(output, y),
        begin=lambda k: None,
        precision=torch.enable_grad,
        draws=OwnDraws([0], [1]),
    )
    return looks, w, layout


def image() -> tuple[Image, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    x = torch.randn(6, 2, 4, 4, generator=generator, dtype=torch.float64)
    return Image().double(), x, torch.tensor([0, 1, 2, 3, 0, 1])


def test_looks_elsewhere_leave_weights_and_statistics_alone() -> None:
    looks, w, _ = look(*image())
    module = looks._modules[0]
    before = {n: v.clone() for n, v in module.state_dict().items()}
    elsewhere = w + 1
    assert looks.loss(elsewhere) != looks.loss(w)
    assert torch.equal(looks.gradient(elsewhere)[0], looks.loss(elsewhere))
    looks.product(elsewhere, w)
    looks.layers(elsewhere)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert looks.passes == pytest.approx(6)


def test_gradient_and_product_are_those_of_the_whole_hessian() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    looks, w, layout = look(module, x, y)

    def value(row: Tensor) -> Tensor:
        named = {s.name: layout.view(row[None], s)[0] for s in layout.slots}
        return nn.functional.mse_loss(functional_call(module, named, x), y)

    v = torch.randn_like(w)
    with torch.enable_grad():
        whole = hessian(value, w[0])
        row = w[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(value(row), row)
    torch.testing.assert_close(looks.gradient(w)[1][0], slope)
    torch.testing.assert_close(looks.product(w, v)[0], whole @ v[0])


def test_drawn_labels_follow_the_model_so_their_gradient_is_zero_on_average() -> None:
    x, y = data(torch.float64)
    looks, w, _ = look(network().double(), x, y)
    drawn = torch.stack([looks.sampled(w)[0] for _ in range(200)])
    assert drawn.mean(0).norm() < 0.15 * drawn.norm(dim=1).mean()
    assert looks.gradient(w)[1].norm() > drawn.norm(dim=1).mean()


def test_looks_of_layers_hold_the_gradient_of_each_sample() -> None:
    module, x, y = image()
    looks, w, layout = look(module, x, y)
    found = looks.layers(w)
    assert set(found) == {"net.0.weight", "net.4.weight"}  # batch norm is neither
    # The same labels again: a step's first draws are always the same.
    again, w, _ = look(module, x, y)
    slope = again.sampled(w)
    for name, seen in found.items():
        slot = next(s for s in layout.slots if s.name == name)
        total = torch.einsum("kntr,kntc->krc", seen.slopes, seen.inputs) / 6
        torch.testing.assert_close(total.flatten(), layout.view(slope, slot).flatten())


# Sophia -----------------------------------------------------------------------------------------


class Told:
    """Looks that answers what the test tells it."""

    def __init__(self, hessian: Tensor) -> None:
        self.labels, self._drawn = 1, hessian.sqrt()

    def sampled(self, x: Tensor) -> Tensor:
        return self._drawn.clone()


def test_sophia_equals_pytorch_optimizers_given_the_same_curvature() -> None:
    # Their p clips m/h: their lr is lr/gamma, their p is gamma, their decay gamma*wd.
    lr, gamma, wd = 1e-2, 0.05, 0.1
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    p = w[0].clone().requires_grad_()
    reference = importlib.import_module("pytorch_optimizer").SophiaH(
        [p], lr=lr / gamma, betas=(0.965, 0.99), p=gamma, update_period=10**9, eps=1e-30,
        weight_decay=wd * gamma, hessian_distribution="gaussian",
    )  # fmt: skip
    method, layout = optimizer("sophia_g"), Layout((), 8, 8)
    state = method.init(w, layout)
    hyper = tensors("sophia_g", lr=lr, gamma=gamma, wd=wd, every=3)
    for t in range(1, 15):
        g, h = (torch.randn(1, 8, generator=generator, dtype=torch.float64) for _ in range(2))
        p.grad = g[0].clone()
        reference.step(hessian=[h[0].square()] if (t - 1) % 3 == 0 else None)
        reference.param_groups[0]["step"] = 1  # or it would look for curvature on its own
        looks: object = Told(h.square())
        method.step(w, g, state, hyper, torch.full((1, 1), t, dtype=w.dtype), layout, looks)
        torch.testing.assert_close(w[0], p.detach())


def test_sophia_h_estimates_the_diagonal_of_the_hessian() -> None:
    # f = sum(c*x^2)/2: H u = c*u, so each estimate is c*u^2, on average c.
    class Quadratic:
        curvature = torch.tensor([[1.0, 2.0, 4.0, -1.0]], dtype=torch.float64)

        def __init__(self, step: int) -> None:
            self.draws = OwnDraws([0], [step])

        def product(self, x: Tensor, v: Tensor) -> Tensor:
            return self.curvature * v

    method, layout, w = optimizer("sophia_h"), Layout((), 4, 4), torch.ones(1, 4).double()
    state, hyper = method.init(w, layout), tensors("sophia_h", every=1, b2=0.999)
    for t in range(1, 3001):
        time = torch.full((1, 1), float(t), dtype=w.dtype)
        method.step(w, w.clone(), state, hyper, time, layout, Quadratic(t))
    expected = Quadratic.curvature * (1 - 0.999**3000)
    assert (state["h"] / expected - 1).abs().max() < 0.15


# Line search, evolution, sampling ---------------------------------------------------------------


class Function:
    """Looks at a function of the weights [k, p] alone; counts its values."""

    def __init__(self, value: Callable[[Tensor], Tensor], step: int = 1) -> None:
        self._value, self.draws, self.values = value, OwnDraws([0], [step]), 0

    def loss(self, x: Tensor) -> Tensor:
        self.values += 1
        return self._value(x)

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            value = self._value(x)
            (g,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), g


def rosenbrock(x: Tensor) -> Tensor:
    return 100 * (x[:, 1] - x[:, 0] ** 2) ** 2 + (1 - x[:, 0]) ** 2


def test_lbfgs_finds_rosenbrocks_minimum() -> None:
    # Measured by the method's catalogue: 2.2e-3 after 20 steps of 20 evaluations, 0 within 100.
    method, layout = optimizer("lbfgs"), Layout((), 2, 2)
    w = torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    state, hyper, looks = method.init(w, layout), tensors("lbfgs", evaluations=20), None
    values = [float(rosenbrock(w))]
    for t in range(1, 101):
        looks = Function(rosenbrock)
        time = torch.full((1, 1), float(t), dtype=w.dtype)
        method.step(w, looks.gradient(w)[1], state, hyper, time, layout, looks)
        assert looks.values == 21
        values.append(float(rosenbrock(w)))
    assert values[0] == pytest.approx(24.2)
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert values[20] < 0.05
    assert values[100] < 1e-20


def test_lbfgs_direction_is_newtons_once_it_knows_the_quadratic() -> None:
    from automl.methods.optimizers.lbfgs import _lbfgs_direction

    curvature = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)
    s = torch.zeros(1, 10, 3, dtype=torch.float64)
    s[0, :3] = 100 * torch.eye(3, dtype=torch.float64)
    g = torch.tensor([[1.0, -2.0, 5.0]], dtype=torch.float64)
    torch.testing.assert_close(_lbfgs_direction(g, s, s * curvature), g / curvature)


@pytest.mark.parametrize(("n", "evaluations"), [(10, 1710), (100, 11407)])
def test_lm_ma_es_needs_the_recorded_number_of_evaluations(n: int, evaluations: int) -> None:
    # Measured by the method's catalogue on the sphere from 3 with s = 2, to 1e-10.
    method, layout = optimizer("lm_ma_es"), Layout((), n, n)
    w = torch.full((1, n), 3.0, dtype=torch.float64)
    state, hyper, made, t = method.init(w, layout), tensors("lm_ma_es", sigma=2.0), 0, 0
    while w.square().sum() > 1e-10:
        t += 1
        looks = Function(lambda x: x.square().sum(1), t)
        time = torch.full((1, 1), float(t), dtype=w.dtype)
        method.step(w, w, state, hyper, time, layout, looks)
        made += looks.values
    assert made == pytest.approx(evaluations, rel=0.2)


def test_simmering_shares_its_temperature_out_among_oscillators() -> None:
    # f = sum k*x^2/2 with 500 different k: on average v^2 and k*x^2 are both T.
    stiffness = torch.linspace(0.5, 2, 500, dtype=torch.float64).unsqueeze(0)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, 500, generator=generator, dtype=torch.float64)
    method, layout = optimizer("simmering"), Layout((), 500, 500)
    hyper = {
        **tensors("simmering", lr=0.05**2, temperature=0.5, tau=1.0),
        "factor": torch.ones(1, 1, dtype=torch.float64),
    }
    state, kinetic, potential = method.init(w, layout), [], []
    for t in range(1, 6001):
        before = w.clone()
        time = torch.full((1, 1), float(t), dtype=w.dtype)
        method.step(w, stiffness * w, state, hyper, time, layout)
        if t > 2000:
            kinetic.append(float(state["v"].square().mean()))
            # v lies half a step on: between the two places.
            potential.append(float((stiffness * ((w + before) / 2).square()).mean()))
    assert sum(kinetic) / 4000 == pytest.approx(0.5, rel=0.02)
    assert sum(potential) / 4000 == pytest.approx(0.5, rel=0.02)


# K-FAC and EKFAC --------------------------------------------------------------------------------


class Layers:
    """A look at one linear layer "net.weight" with a bias, that the test makes up."""

    def __init__(self, inputs: Tensor, slopes: Tensor) -> None:
        self._found = {"net.weight": LayerLook(inputs[None, :, None], slopes[None, :, None])}

    def layers(self, x: Tensor) -> dict[str, LayerLook]:
        return self._found


LINEAR = Layout(
    (Slot("net.weight", (3, 2), 0, "output"), Slot("net.bias", (3,), 6, "vector")), 9, 6
)


def natural(name: str, samples: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs with a 1, slopes, the gradient [3, 3] with the bias's column, and the first step."""
    generator = torch.Generator().manual_seed(0)
    a, slopes, g = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((samples, 2), (samples, 3), (1, 9))
    )
    method, w = optimizer(name), torch.zeros(1, 9, dtype=torch.float64)
    hyper = tensors(name, lr=1.0, kl=1e9, damping=0.01) | {"factor": torch.ones(1, 1).double()}
    time = torch.ones(1, 1, dtype=torch.float64)
    method.step(w, g, method.init(w, LINEAR), hyper, time, LINEAR, Layers(a, slopes))
    matrix = [torch.cat([x[0, :6].view(3, 2), x[0, 6:, None]], 1) for x in (g, w)]
    return torch.cat([a, torch.ones(samples, 1).double()], 1), slopes, matrix[0], -matrix[1]


def test_kfac_solves_with_the_kronecker_product_of_the_damped_factors() -> None:
    a, slopes, g, step = natural("kfac", 20)
    A, G = a.T @ a / 20, slopes.T @ slopes / 20
    ratio = (A.trace() / G.trace()).sqrt()
    eye = torch.eye(3, dtype=torch.float64)
    whole = torch.kron(G + 0.1 / ratio * eye, A + 0.1 * ratio * eye)
    torch.testing.assert_close(step.flatten(), torch.linalg.solve(whole, g.flatten()))


def test_ekfac_solves_with_the_diagonal_of_the_fisher_matrix_in_kfacs_axes() -> None:
    a, slopes, g, step = natural("ekfac", 20)
    each = torch.einsum("br,bc->brc", slopes, a).flatten(1)
    fisher = each.T @ each / 20
    axes = [torch.linalg.eigh(x.T @ x / 20)[1] for x in (slopes, a)]
    turn = torch.kron(*axes)
    diagonal = (turn.T @ fisher @ turn).diagonal()
    whole = turn @ (diagonal + 0.01).diag() @ turn.T
    torch.testing.assert_close(step.flatten(), torch.linalg.solve(whole, g.flatten()))
    # and that describes the Fisher matrix better than the product of the factors does
    product = torch.kron(slopes.T @ slopes / 20, a.T @ a / 20)
    assert (turn @ diagonal.diag() @ turn.T - fisher).norm() < (product - fisher).norm()


@pytest.mark.parametrize("name", ["kfac", "ekfac"])
def test_twenty_steps_of_natural_gradient_go_further_than_adamws(name: str) -> None:
    given = {"lr": 0.1, "kl": 1e-2, "damping": 1e-2}
    run = Run(weights(), [values_at({"optimizer": name}) | given], {"optimizer": name})
    assert run.steps(20)[-1] < 0.3  # AdamW at 3e-3: 1.137


def test_what_has_no_look_takes_adamws_step() -> None:
    class Nothing:
        def layers(self, x: Tensor) -> dict[str, LayerLook]:
            return {}

    for name in ("kfac", "ekfac"):
        method, w = optimizer(name), torch.ones(1, 9, dtype=torch.float64)
        hyper = tensors(name, rest_lr=0.1, wd=1e-30) | {"factor": torch.full((1, 1), 0.5).double()}
        time = torch.ones(1, 1, dtype=torch.float64)
        method.step(w, 3 * w, method.init(w, LINEAR), hyper, time, LINEAR, Nothing())
        assert (w - 0.95).abs().max() < 1e-6


# Lifting ----------------------------------------------------------------------------------------


def test_lifting_follows_the_gradient_of_the_second_networks_weights() -> None:
    from automl.methods.optimizers.lifting import _lifting_layers, _lifting_slopes

    torch.manual_seed(0)
    state = optimizer("lifting").init(torch.randn(1, 5).double(), Layout((), 5, 5))
    state["V"].normal_()
    names = ("A", "a", "B", "b", "V", "c")
    g = torch.randn(1, 5).double()
    with torch.enable_grad():
        leaves = {n: state[n].clone().requires_grad_() for n in names}
        lifted = {**state, **leaves}
        w = (lifted["V"] @ _lifting_layers(lifted)[1] + lifted["c"])[..., 0]
        slopes = torch.autograd.grad((w * g).sum(), list(leaves.values()))
    found = _lifting_slopes(g, state)
    for name, slope in zip(names, slopes, strict=True):
        torch.testing.assert_close(found[name], slope)
