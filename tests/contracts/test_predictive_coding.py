"""Predictive coding against backpropagation, and the networks that it declines."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import Batch, Gradient, hyper_tensors
from automl.registry import family
from automl.train.chain import BatchChain, layers_of
from automl.train.packed import layout_of

BATCH = 5


def deep(layers: int = 6) -> nn.Sequential:
    """`layers` of tanh but for the last, 7 wide, float64."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts.append(nn.Linear(4 if layer == 0 else 7, 3 if layer == layers - 1 else 7))
        if layer < layers - 1:
            parts.append(nn.Tanh())
    return nn.Sequential(*parts).double()


def half_squared(k: int, output: Tensor, y: Tensor, y2: object, weight: object) -> Tensor:
    return (output - y).square().sum(1).mean() / 2


def gradients(
    module: nn.Sequential, y: Tensor, *, light: float = 1.0, **hyper: Any
) -> tuple[list[Tensor], list[Tensor]]:
    """Each layer's matrix by predictive coding of light*loss, by backpropagation of the loss."""
    x = torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layout = layout_of(module)
    named = dict(module.named_parameters())
    w = torch.cat([named[s.name].detach().reshape(1, -1) for s in layout.slots], 1)
    chain = BatchChain(
        [module],
        layout,
        Batch(x[None], y[None]),
        loss=lambda *given: light * half_squared(*given),
        begin=lambda k, layer: None,
        precision=nullcontext,
    )
    method = family("gradient").get("predictive_coding")
    assert isinstance(method, Gradient)
    values = hyper_tensors([hyper], dtype=torch.float64)
    with torch.no_grad():
        _, found = method.compute(None, w, {}, values, torch.ones(1, 1), chain)
    loss = half_squared(0, module(x), y, None, None)
    slopes = torch.autograd.grad(loss, [named[s.name] for s in layout.slots])
    matrices = [s for s in layout.slots if s.role != "vector"]
    return [layout.view(found, s)[0] for s in matrices], list(slopes[: len(matrices)])


def target(module: nn.Sequential, distance: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, 4, generator=generator, dtype=torch.float64)
    error = torch.randn(BATCH, 3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return module(x) + distance * error  # type: ignore[no-any-return]


def test_at_rest_it_has_the_gradient_of_backpropagation_where_the_loss_is_light() -> None:
    # At rest e_l = J^T e_(l+1), with J and e_n where h has gone: away from the plain forward in
    # proportion to the loss, so the deviation falls with it.
    module = deep(4)
    y = target(module, 1.0)
    worst = []
    for light in (1e-2, 1e-4):
        found, exact = gradients(
            module, y, light=light, eta=0.3, alpha=1.0, rounds=60, forward=False
        )
        pairs = zip(found, exact, strict=True)
        worst.append(max(float((a - light * b).norm() / (light * b).norm()) for a, b in pairs))
    assert worst[0] < 0.1
    assert worst[1] < 1e-3
    assert worst[1] < worst[0] / 50


def test_a_spike_alone_points_along_backpropagation_with_the_known_lengths() -> None:
    # Measured by the method's catalogue: eta^k (1 - eta) for the layer k below the last.
    module = deep()
    found, exact = gradients(
        module, target(module, 1.0), eta=0.8, alpha=0.0, rounds=1, forward=True
    )
    for a, b in zip(found, exact, strict=True):
        assert float((a * b).sum() / (a.norm() * b.norm())) == pytest.approx(1, abs=1e-9)
    ratios = [float(a.norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
    assert ratios == pytest.approx([0.8**k * 0.2 for k in (5, 4, 3, 2, 1)] + [1.0])


def test_equal_precisions_reach_the_first_layer_only_faintly() -> None:
    module = deep()
    found, exact = gradients(
        module, target(module, 1.0), eta=0.1, alpha=1.0, rounds=1, forward=True
    )
    ratios = [float(a.norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
    assert ratios[0] < 2e-4  # 4.9e-5 in the catalogue's network
    assert ratios[-1] == pytest.approx(1)


def test_settled_inputs_turn_the_gradient_away_when_the_error_is_large() -> None:
    module = deep()
    found, exact = gradients(
        module, target(module, 3.0), eta=0.8, alpha=0.0, rounds=1, forward=False
    )
    cosines = [
        float((a * b).sum() / (a.norm() * b.norm())) for a, b in zip(found, exact, strict=True)
    ]
    assert min(cosines) < 0.95


def test_layers_begin_at_matrices_and_keep_what_follows() -> None:
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    layers = layers_of(nn.Sequential(nn.Identity(), inner, nn.Flatten(), nn.Linear(8, 3)))
    assert [[type(m).__name__ for m in layer] for layer in layers] == [
        ["Identity", "Conv2d", "BatchNorm2d", "ReLU", "Flatten"],
        ["Linear"],
    ]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.cell(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "words"),
    [(Recurrent(), "Recurrent is none"), (nn.Sequential(nn.ReLU()), "no matrix of weights")],
)
def test_networks_that_are_no_line_of_layers_are_declined(module: nn.Module, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        layers_of(module)
