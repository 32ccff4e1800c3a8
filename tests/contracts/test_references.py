"""Methods against their references: other people's classes, recorded losses, values by hand."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from automl.errors import MethodError
from automl.methods.stages import Averaging, Gradient, Layout, Optimizer, Transform, hyper_tensors
from automl.methods.torch_optimizer import TorchOptimizer
from automl.registry import family
from automl.space.ranges import Value

from .libraries import exact, reference
from .plain_optimizers import PLAIN
from .tiny_problem import LAYOUT, OwnDraws, Run, network, values_at, weights

GOLDEN = Path(__file__).parents[1] / "golden" / "optimizers.txt"


OPTIMIZERS = family("optimizer").names()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _optimizer(name: str) -> Optimizer:
    method = family("optimizer").get(name)
    assert isinstance(method, Optimizer)
    return method


def _row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if _optimizer(n).reference or n in PLAIN])
@settings(derandomize=True, deadline=None, phases=[Phase.generate], max_examples=6)
@given(data=st.data())
def test_every_step_equals_the_reference(name: str, data: st.DataObject) -> None:
    method = _optimizer(name)
    stages = {"optimizer": name}
    unit = {n: data.draw(st.floats(0, 1), label=n) for n in method.ranges}
    values: dict[str, Any] = values_at(stages, unit)
    w = weights()
    parameters = [LAYOUT.view(w, s)[0].clone().requires_grad_() for s in LAYOUT.slots]
    state, hyper = method.init(w, LAYOUT), hyper_tensors([{"factor": 1.0, **values}], dtype=w.dtype)
    generator = torch.Generator().manual_seed(0)
    coin = list[Tensor]()  # what both sides draw
    with exact(coin):
        references = reference(name, method.reference, values, parameters)
        for other in references:
            getattr(other, "train", lambda: None)()
        for t in range(1, 21):
            g = torch.randn(w.shape, generator=generator, dtype=w.dtype) * 10.0 ** (-t / 5)
            for p, s in zip(parameters, LAYOUT.slots, strict=True):
                p.grad = LAYOUT.view(g, s)[0].clone()
            drawn = method.draw(LAYOUT, OwnDraws([0], [t])) if method.draw else {}
            coin[:] = [u.flatten() for u in drawn.values()]
            for other in references:
                other.step()
            step = torch.full((1, 1), t, dtype=w.dtype)
            method.step(w, g, state, {**hyper, **drawn}, step, LAYOUT)
            expected = torch.cat([p.detach().reshape(1, -1) for p in parameters], 1)
            assert (w - expected).abs().max() <= 1e-9 * expected.abs().max()
    for other in references:
        getattr(other, "eval", lambda: None)()
    if method.evaluated is not None:
        expected = torch.cat([p.detach().reshape(1, -1) for p in parameters], 1)
        x = method.evaluated(w, state, hyper)
        assert (x - expected).abs().max() <= 1e-9 * expected.abs().max()


def _golden() -> Iterator[tuple[str, str, float, dict[str, float]]]:
    for line in GOLDEN.read_text().splitlines():
        if not line.startswith("#"):
            gradient, optimizer, loss, *pairs = line.split()
            given = {n: float(v) for n, v in (pair.split("=") for pair in pairs)}
            yield gradient, optimizer, float(loss), given


@pytest.mark.parametrize(("gradient", "optimizer", "loss", "given"), list(_golden()))
def test_loss_of_the_twentieth_step_is_the_recorded_one(
    gradient: str, optimizer: str, loss: float, given: dict[str, float]
) -> None:
    stages = {"gradient": gradient, "optimizer": optimizer}
    everywhere = Layout(LAYOUT.slots, LAYOUT.size, decayed=LAYOUT.size)
    run = Run(weights(dtype=torch.float32), [values_at(stages) | given], stages, everywhere)
    with torch.no_grad():
        found = run.steps(20)
    assert float(found[0]) == pytest.approx(1.3886, abs=1e-3)
    assert float(found[-1]) == pytest.approx(loss, abs=1e-3)


def test_sam_by_hand() -> None:
    # f = (x1^2 + 4 x2^2)/2 at (1, 2): g = (1, 8), |g| = sqrt(65), e = .1 g/|g|;
    # the gradient at x + e is (1 + .1/sqrt(65), 8 + 3.2/sqrt(65)); a step of .1 along it.
    method = family("gradient").get("sam")
    assert isinstance(method, Gradient)
    w, curvature = _row(1.0, 2.0), _row(1.0, 4.0)

    def closure(statistics: bool = True) -> tuple[Tensor, Tensor]:
        return (curvature * w**2).sum(1) / 2, curvature * w

    loss, g = method.compute(closure, w, {}, {"rho": _row(0.1)}, _row(1.0))
    assert loss.tolist() == [8.5]
    assert (w - 0.1 * g)[0].tolist() == pytest.approx([0.898760, 1.160309], abs=1e-6)


@given(scale=st.floats(1e-3, 1e3))
def test_clipped_gradient_is_torchs(scale: float) -> None:
    method = family("transform").get("clip_norm")
    assert isinstance(method, Transform)
    g = scale * torch.arange(1.0, 1 + LAYOUT.size, dtype=torch.float64).view(1, -1)
    p = torch.zeros_like(g, requires_grad=True)
    p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_([p], 2.5)
    method.apply(g, p, {}, {"norm": _row(2.5)}, _row(1.0), LAYOUT, OwnDraws([0], [1]))
    torch.testing.assert_close(g, p.grad)


def _averaged(
    name: str, path: list[float], hyper: dict[str, float], since: int = 1, horizon: float = 4
) -> float:
    """The average after the weights of `path`, the first before any step."""
    method = family("averaging").get(name)
    assert isinstance(method, Averaging)
    w, tensors = _row(path[0]), hyper_tensors([hyper], dtype=torch.float64)
    state = method.init(w, Layout((), 1, 1))
    for t, value in enumerate(path[1:], start=since):
        w = _row(value)
        method.update(w, state, tensors, _row(float(t)), _row(horizon))
    return float(method.evaluated(w, state, tensors))


def test_ema_by_hand() -> None:
    # Early: d = 2/11, then 3/12: 9/11, then 9/44 + 3/2. Late: d = .9: .1, then .09 + .2.
    assert _averaged("ema", [0, 1, 2], {"forget": 0.1}) == pytest.approx(9 / 44 + 3 / 2)
    assert _averaged("ema", [0, 1, 2], {"forget": 0.1}, since=1000) == pytest.approx(0.29)


def test_swa_by_hand() -> None:
    # Of 4 steps with start .5 the weights after steps 3 and 4 count; before, w itself.
    assert _averaged("swa", [9, 1, 2, 3, 5], {"start": 0.5}) == pytest.approx(4)
    assert _averaged("swa", [9, 1, 2], {"start": 0.5}) == 2


def test_lawa_by_hand() -> None:
    # A window of all 12 steps: snapshots after steps 2, 4, ..., the last six of them count.
    path = [9.0, *range(1, 13)]
    values = {"window": 1.0}
    assert _averaged("lawa", path, values, horizon=12) == pytest.approx(
        (2 + 4 + 6 + 8 + 10 + 12) / 6
    )
    assert _averaged("lawa", path[:6], values, horizon=12) == pytest.approx((2 + 4) / 2)
    assert _averaged("lawa", path[:2], values, horizon=12) == 1
    # A short window: a snapshot each step.
    assert _averaged("lawa", path, {"window": 0.1}, horizon=12) == pytest.approx(9.5)


@pytest.mark.parametrize("name", family("averaging").names())
def test_an_averaging_says_whether_it_moves_the_weights(name: str) -> None:
    method = family("averaging").get(name)
    assert isinstance(method, Averaging)
    draws = torch.Generator().manual_seed(0)
    w = torch.randn(2, 5, generator=draws, dtype=torch.float64)
    state = method.init(w, Layout((), 5, 5))
    defaults = {n: r.default for n, r in method.ranges.items()}
    hyper, moved = hyper_tensors([defaults, defaults], dtype=w.dtype), False
    for t in range(1, 31):
        w += torch.randn(2, 5, generator=draws, dtype=torch.float64)
        before = w.clone()
        method.update(w, state, hyper, torch.full((2, 1), float(t)), torch.full((2, 1), 30.0))
        moved |= not torch.equal(w, before)
    assert moved is method.moves


def test_lookahead_is_that_of_pytorch_optimizer() -> None:
    torchs = importlib.import_module("pytorch_optimizer").Lookahead
    method = family("averaging").get("lookahead")
    assert isinstance(method, Averaging)
    target = torch.randn(1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = torch.zeros_like(target, requires_grad=True)
    w, layout = p.detach().clone(), Layout((), 5, 5)
    reference = torchs(torch.optim.SGD([p], lr=0.1), k=4, alpha=0.3)
    state = method.init(w, layout)
    values = hyper_tensors([{"every": 4, "pull": 0.3}], dtype=w.dtype)
    for t in range(1, 14):
        p.grad = (p - target).detach()
        reference.step()
        w -= 0.1 * (w - target)
        method.update(w, state, values, _row(float(t)), _row(13.0))
        torch.testing.assert_close(w, p.detach())
    assert not torch.equal(method.evaluated(w, state, values), w)  # slow since step 12


def test_decay_by_hand_acts_beside_or_inside_the_gradient() -> None:
    # Ten steps of gradient 0 from 1 with lr .01, wd .1: .999^10 = .990045 decoupled.
    for name, expected in [("adamw", 0.990045), ("adam", 0.900350)]:
        method, w = _optimizer(name), _row(1.0)
        values = values_at({"optimizer": name}) | {"lr": 0.01, "wd": 0.1}
        layout, hyper = Layout((), 1, 1), hyper_tensors([values], dtype=torch.float64)
        state = method.init(w, layout)
        for t in range(1, 11):
            method.step(w, _row(0.0), state, hyper, _row(float(t)), layout)
        assert float(w) == pytest.approx(expected, abs=1e-6)


def test_muon_sets_all_singular_values_near_one_for_kernels_too() -> None:
    from automl.methods.optimizers.muon import _muon_orthogonal

    u = torch.randn(3, 64, 32, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(_muon_orthogonal(u))
    assert values.min() > 0.6
    assert values.max() < 1.25


def test_switches_become_numbers_and_texts_stay_out() -> None:
    members: list[dict[str, Value]] = [
        {"nesterov": True, "lr": 1, "shape": "cosine"},
        {"nesterov": False, "lr": 0.5},
    ]
    hyper = hyper_tensors(members, dtype=torch.float64)
    assert hyper["nesterov"].tolist() == [[1.0], [0.0]]
    assert hyper["lr"].dtype == torch.float64
    assert set(hyper) == {"nesterov", "lr"}


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if not _optimizer(n).looks])
def test_torch_optimizer_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))

    def train(net: torch.nn.Module, optimizer: TorchOptimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()

    net = network()
    optimizer = TorchOptimizer(net.parameters(), name)
    train(net, optimizer, 5)
    torch.save([net.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    train(net, optimizer, 7)

    other = network(seed=9)
    resumed = TorchOptimizer(other.parameters(), name)
    weights_then, state_then = torch.load(tmp_path / "state.pt")
    other.load_state_dict(weights_then)
    resumed.load_state_dict(state_then)
    train(other, resumed, 7)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for x1, x2 in zip(optimizer.evaluated(), resumed.evaluated(), strict=True):
        assert torch.equal(x1, x2)


def test_torch_optimizer_follows_a_scheduler_of_torch() -> None:
    p = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = TorchOptimizer([p], "lion", lr=0.5, wd=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(2):
        p.sum().backward()
        optimizer.step()
        scheduler.step()
    assert p.tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_torch_optimizer_names_the_wrong_word() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(MethodError, match="no optimizer named 'lionn'; nearest: 'lion'"):
        TorchOptimizer([p], "lionn")
    with pytest.raises(MethodError, match="sophia_h looks at the loss on its own"):
        TorchOptimizer([p], "sophia_h")
    with pytest.raises(MethodError, match="lion has no 'lrr'; nearest: 'lr'"):
        TorchOptimizer([p], "lion", lrr=0.1)
