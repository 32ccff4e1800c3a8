"""Optimizers that see a weight matrix as a matrix, against pytorch-optimizer's classes."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from automl.methods.stages import Layout, Optimizer, Slot, hyper_tensors
from automl.registry import family

from .tiny_problem import values_at

# Two matrices of one shape, one of another, one of a kernel's; a bias.
SHAPES = (
    (5, 4),
    (5, 4),
    (5, 6),
    (4,),
)  # hardly wider than tall: null spaces have no axes to compare
SLOTS: list[Slot] = []
for _shape in SHAPES:
    _at = sum(s.numel for s in SLOTS)
    SLOTS.append(Slot(str(_at), _shape, _at, "matrix" if len(_shape) > 1 else "vector"))
WEIGHTS = Layout(tuple(SLOTS), 74, 70)


def _both(
    name: str, cls: str, given: dict[str, float], keywords: dict[str, Any], steps: int
) -> list[tuple[Tensor, Tensor]]:
    """Changes of the weights [p] in each step: ours and the reference's, of the same gradients."""
    method = family("optimizer").get(name)
    assert isinstance(method, Optimizer)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, WEIGHTS.size, generator=generator, dtype=torch.float64)
    state = method.init(w, WEIGHTS)
    hyper = hyper_tensors([values_at({"optimizer": name}) | given], dtype=w.dtype)
    parameters = [WEIGHTS.view(w, s)[0].clone().requires_grad_() for s in SLOTS]
    reference = getattr(importlib.import_module("pytorch_optimizer"), cls)(parameters, **keywords)
    found = []
    for t in range(1, steps + 1):
        g = torch.randn(1, WEIGHTS.size, generator=generator, dtype=torch.float64)
        before, theirs = w.clone(), torch.cat([p.detach().flatten() for p in parameters])
        for p, s in zip(parameters, SLOTS, strict=True):
            p.grad = WEIGHTS.view(g, s)[0].clone()
        reference.step()
        method.step(w, g, state, hyper, torch.full((1, 1), t, dtype=w.dtype), WEIGHTS)
        after = torch.cat([p.detach().flatten() for p in parameters])
        found.append(((w - before)[0], after - theirs))
    return found


def test_shampoo_turns_adams_step_as_pytorch_optimizers_does() -> None:
    # Theirs is not grafted and has no momentum: compare each matrix at length 1.
    given = {"wd": 0.0, "b1": 0.0, "b3": 1.0, "eps": 1e-14, "every": 1}
    for ours, theirs in _both("shampoo", "Shampoo", given, {"matrix_eps": 1e-14}, 12)[3:]:
        for s in SLOTS[:3]:
            a, b = (x[s.offset : s.offset + s.numel] for x in (ours, theirs))
            torch.testing.assert_close(a / a.norm(), b / b.norm(), rtol=0, atol=1e-6)


def test_shampoo_has_the_length_of_adams_step_and_is_adam_before_its_first_refresh() -> None:
    given = {"lr": 0.1, "wd": 0.0, "every": 4}
    keywords = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    for t, (ours, theirs) in enumerate(_both("shampoo", "AdamW", given, keywords, 9), start=1):
        for s in SLOTS:
            a, b = (x[s.offset : s.offset + s.numel] for x in (ours, theirs))
            torch.testing.assert_close(a.norm(), b.norm())
            turned = t >= 4 and s.role == "matrix"
            assert torch.allclose(a, b, atol=1e-9) is not turned


def test_soap_is_that_of_pytorch_optimizer() -> None:
    keywords = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.95), "shampoo_beta": 0.8}
    given = {"lr": 0.01, "wd": 0.1, "b1": 0.9, "b2": 0.95, "b3": 0.8}
    # Without refresh to rounding; with it to 1e-4: their QR is float32's.
    for every, tolerance in ((50, 1e-10), (3, 1e-4)):
        pairs = _both(
            "soap",
            "SOAP",
            {**given, "every": every},
            {**keywords, "precondition_frequency": every},
            20,
        )
        assert pairs[0][0].abs().max() == 0
        for ours, theirs in pairs:
            # Their decay spares no vector; ours does.
            torch.testing.assert_close(ours[:70], theirs[:70], rtol=0, atol=0.01 * tolerance)
