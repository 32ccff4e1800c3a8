"""Transforms against other people's functions, by hand, and in their shares of chance."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from automl.methods.stages import Layout, Slot, State, Transform, hyper_tensors
from automl.registry import family

from .tiny_problem import OwnDraws, weights

# A kernel, a matrix, an embedding, the output layer and a bias.
LAYOUT = Layout(
    slots=(
        Slot("conv", (4, 3, 2, 2), 0, "matrix"),
        Slot("dense", (5, 6), 48, "matrix"),
        Slot("token", (7, 3), 78, "embedding"),
        Slot("head", (2, 5), 99, "output"),
        Slot("bias", (9,), 109, "vector"),
    ),
    size=118,
    decayed=109,
)


def transform(name: str) -> Transform:
    method = family("transform").get(name)
    assert isinstance(method, Transform)
    return method


def random_row(seed: int, size: int = LAYOUT.size) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, size, generator=generator, dtype=torch.float64)


def applied(
    name: str, g: Tensor, w: Tensor, *, t: int = 1, layout: Layout = LAYOUT, **hyper: float
) -> Tensor:
    """The gradient after the transform, with fresh state."""
    method, out = transform(name), g.clone()
    tensors = hyper_tensors([hyper], dtype=g.dtype)
    step = torch.full((1, 1), float(t), dtype=g.dtype)
    state = method.init(w, layout)
    method.apply(out, w, state, tensors, step, layout, OwnDraws([3], [t]))
    return out


def slots(row: Tensor) -> dict[str, Tensor]:
    return {s.name: LAYOUT.view(row, s)[0] for s in LAYOUT.slots}


def test_clip_value_is_torchs() -> None:
    g = random_row(0)
    p = torch.zeros_like(g, requires_grad=True)
    p.grad = g.clone()
    torch.nn.utils.clip_grad_value_([p], 0.3)
    assert torch.equal(applied("clip_value", g, g, value=0.3), p.grad)


@pytest.mark.parametrize("clip", [0.01, 0.3, 3.0])
def test_agc_is_that_of_pytorch_optimizer(clip: float) -> None:
    agc: Any = importlib.import_module("pytorch_optimizer.optimizer.agc").agc
    g, w = random_row(0), random_row(1)
    w[:, :12] = 0  # a filter that has not begun to grow
    found, before, size = slots(applied("agc", g, w, clip=clip)), slots(g), slots(w)
    for name in ("conv", "dense", "token"):
        expected = agc(size[name], before[name], agc_clip_val=clip)
        torch.testing.assert_close(found[name], expected)
    for name in ("head", "bias"):
        assert torch.equal(found[name], before[name])


def test_agc_by_hand() -> None:
    # A row of length 5 against weights of length 2: it may have .1*2, so it is scaled by .04.
    layout = Layout((Slot("a", (1, 2), 0, "matrix"),), 2, 2)
    g, w = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    found = applied("agc", g, w, layout=layout, clip=0.1)
    assert found[0].tolist() == pytest.approx([0.12, 0.16])


def test_centralization_is_that_of_pytorch_optimizer() -> None:
    module: Any = importlib.import_module("pytorch_optimizer.optimizer.gradient_centralization")
    g = random_row(0)
    found, expected = slots(applied("centralization", g, g)), slots(g.clone())
    for name in ("conv", "dense", "head", "bias"):
        module.centralize_gradient(expected[name])
    for name in found:
        torch.testing.assert_close(found[name], expected[name])


def test_noise_has_the_stated_deviation_and_wanes() -> None:
    layout, zero = Layout((), 20_000, 20_000), torch.zeros(1, 20_000, dtype=torch.float64)
    for t, sigma in [(1, 0.1), (100, 0.1 * 100**-0.275)]:
        added = applied("noise", zero, zero, t=t, layout=layout, eta=0.01)
        assert float(added.std()) == pytest.approx(sigma, rel=0.02)
        assert abs(float(added.mean())) < 0.03 * sigma


def test_masking_hides_a_share_and_keeps_the_mean() -> None:
    layout, one = Layout((), 20_000, 20_000), torch.ones(1, 20_000, dtype=torch.float64)
    found = applied("masking", one, one, layout=layout, p=0.3)
    assert float((found == 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.7])
    other = applied("masking", one, one, t=2, layout=layout, p=0.3)
    assert not torch.equal(found == 0, other == 0)


def skipped(lengths: Sequence[float], **hyper: float) -> list[bool]:
    """Which of the gradients of these lengths, one a step, are skipped."""
    method, w, out = transform("skip"), weights(), list[bool]()
    tensors = hyper_tensors([{"spike": 10.0, "p": 0.0, "easy": 0.0} | hyper], dtype=w.dtype)
    state: State = method.init(w, LAYOUT)
    for t, length in enumerate(lengths, start=1):
        g = torch.zeros_like(w)
        g[:, 0] = length
        step = torch.full((1, 1), float(t), dtype=w.dtype)
        method.apply(g, w, state, tensors, step, LAYOUT, OwnDraws([3], [t]))
        assert not g.isnan().any()
        out.append(not g.any())
    return out


def test_a_spike_is_skipped_once_there_is_a_median_and_a_lasting_rise_is_learned() -> None:
    assert not any(skipped([1.0, 100.0] + [1.0] * 13))
    assert skipped([1.0] * 20 + [10.5, 9.5, 1.0])[20:] == [True, False, False]
    rise = skipped([1.0] * 20 + [30.0] * 40)[20:]
    assert rise == [True] * 21 + [False] * 19  # until the 1s are no longer the lower half


def test_a_gradient_that_is_not_finite_is_skipped_and_forgotten() -> None:
    assert skipped([1.0] * 20 + [math.inf, math.nan, 1.0])[20:] == [True, True, False]
    assert skipped([math.nan, 1.0]) == [True, False]


def test_easy_batches_are_those_with_the_shortest_gradients() -> None:
    shuffled = torch.randperm(400, generator=torch.Generator().manual_seed(0)) + 1.0
    out = skipped(shuffled.tolist(), easy=0.25)[128:]
    easy = (shuffled[128:] < 80).tolist()
    hard = (shuffled[128:] > 140).tolist()
    assert all(s for s, e in zip(out, easy, strict=True) if e)
    assert not any(s for s, h in zip(out, hard, strict=True) if h)
    assert sum(out) / len(out) == pytest.approx(0.25, abs=0.05)


def test_random_skips_have_their_probability() -> None:
    out = skipped([1.0] * 2000, p=0.3)
    assert sum(out) / len(out) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(("embeddings", "vectors"), [(1, 0), (0, 1)])
def test_decays_by_hand_act_on_what_their_switches_say(embeddings: int, vectors: int) -> None:
    on = {"conv": 1, "dense": 1, "head": 1, "token": embeddings, "bias": vectors}
    g, w = random_row(0), random_row(1)
    shrunk, by_rate = w.clone(), w.clone()
    found = [
        applied(name, g, at, decay=0.1, embeddings=embeddings, vectors=vectors, factor=0.5, lr=0.2)
        for name, at in (
            ("coupled_decay", w), ("independent_decay", shrunk), ("decoupled_decay", by_rate)
        )
    ]  # fmt: skip
    assert torch.equal(found[1], g) and torch.equal(found[2], g)
    coupled, before, size = slots(found[0]), slots(g), slots(w)
    for name, share in on.items():
        torch.testing.assert_close(coupled[name], before[name] + 0.1 * share * size[name])
        torch.testing.assert_close(slots(shrunk)[name], size[name] * (1 - 0.05 * share))
        torch.testing.assert_close(slots(by_rate)[name], size[name] * (1 - 0.02 * share))


def test_coupled_decay_is_that_of_torchs_sgd() -> None:
    g, w = random_row(0), random_row(1)
    p = w.clone().requires_grad_()
    p.grad = g.clone()
    torch.optim.SGD([p], lr=0.1, weight_decay=0.01).step()
    found = applied("coupled_decay", g, w, decay=0.01, embeddings=1, vectors=1)
    torch.testing.assert_close(w - 0.1 * found, p.detach())


def test_adagc_before_adamw_is_that_of_pytorch_optimizer() -> None:
    # 130 steps: the library's warmup ends at 100. One gradient in ten is a spike. The library's
    # length of the whole gradient is a float32.
    class_of: Any = importlib.import_module("pytorch_optimizer").AdaGC
    method, w = transform("adagc"), random_row(0)
    values = {"lambda_rel": 1.2, "beta": 0.9}
    hyper, state = hyper_tensors([values], dtype=w.dtype), method.init(w, LAYOUT)
    parameters = [x.clone().requires_grad_() for x in slots(w).values()]
    own = [x.detach().clone().requires_grad_() for x in parameters]
    library = class_of(parameters, weight_decay=0.0, foreach=False, **values)
    adamw = torch.optim.AdamW(own, weight_decay=0.0)
    for t in range(1, 131):
        g = random_row(t) * (30.0 if t % 10 == 0 else 0.1)
        step = torch.full((1, 1), float(t), dtype=w.dtype)
        for p, x in zip(parameters, slots(g).values(), strict=True):
            p.grad = x.clone()
        method.apply(g, w, state, hyper, step, LAYOUT, OwnDraws([0], [t]))
        for p, x in zip(own, slots(g).values(), strict=True):
            p.grad = x.clone()
        library.step()
        adamw.step()
        for p, q in zip(parameters, own, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)


def test_gradient_stabilizer_before_adam_is_the_librarys_without_its_other_parts() -> None:
    # theta = 0: the limit on single entries is then the largest of them, and limits nothing.
    class_of: Any = importlib.import_module("pytorch_optimizer").StableSPAM
    method, w = transform("gradient_stabilizer"), random_row(0)
    hyper = hyper_tensors([{"gamma1": 0.7, "gamma2": 0.9}], dtype=w.dtype)
    state = method.init(w, LAYOUT)
    parameters = [x.clone().requires_grad_() for x in slots(w).values()]
    own = [x.detach().clone().requires_grad_() for x in parameters]
    library, adam = class_of(parameters, theta=0.0), torch.optim.Adam(own)
    for t in range(1, 21):
        g = random_row(t) * (1000.0 if t == 10 else 0.1)
        step = torch.full((1, 1), float(t), dtype=w.dtype)
        for p, x in zip(parameters, slots(g).values(), strict=True):
            p.grad = x.clone()
        method.apply(g, w, state, hyper, step, LAYOUT, OwnDraws([0], [t]))
        for p, x in zip(own, slots(g).values(), strict=True):
            p.grad = x.clone()
        library.step()
        adam.step()
        for p, q in zip(parameters, own, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1e2, 1e8])
def test_gradient_stabilizer_brings_every_spike_to_one_length(size: float) -> None:
    # After long steady norms of 1: a^ = .7 + .3*size and b^ = .9 + .1*size^2; the limit is .949.
    expected = (0.7 + 0.3 * size) / math.sqrt(0.9 + 0.1 * size**2)
    method, g = transform("gradient_stabilizer"), random_row(0)
    hyper = hyper_tensors([{"gamma1": 0.7, "gamma2": 0.9}], dtype=g.dtype)
    state = method.init(g, LAYOUT)
    for x in slots(g).values():
        x.div_(x.norm())
    for t in range(1, 201):
        out = g * (size if t == 200 else 1.0)
        step = torch.full((1, 1), float(t), dtype=g.dtype)
        method.apply(out, g, state, hyper, step, LAYOUT, OwnDraws([0], [t]))
        if t == 199:
            assert all(float(x.norm()) == pytest.approx(1) for x in slots(out).values())
    assert all(float(x.norm()) == pytest.approx(expected) for x in slots(out).values())
