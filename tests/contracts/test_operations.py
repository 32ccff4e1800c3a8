"""Promises of every operation, and of the cells that are made of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from automl.methods.architectures._by_name import by_name
from automl.methods.architectures.image_cells import ImageCellsCell, image_cells_network
from automl.methods.architectures.text_cells import text_cells_network
from automl.methods.stages import Architecture, Operation, Shape
from automl.registry import family

SHAPES = {"image": (8, 6, 6), "tokens": (10, 8), "vector": (8,)}
CASES = [
    pytest.param(name, kind, id=f"{name} on {kind}")
    for name in family("operation").names()
    for kind in family("operation").get(name).kinds  # type: ignore[attr-defined]
]
every_operation = pytest.mark.parametrize(("name", "kind"), CASES)
CELLS = {
    "image_cells": Shape("image", (1, 8, 8), 10, "classes"),
    "text_cells": Shape("tokens", (12,), 7, "tokens", 7),
    "text_rnn_cells": Shape("tokens", (12,), 7, "tokens", 7),
    "table_cells": Shape("vector", (5,), 3, "classes"),
}


def operation(name: str, *, affine: bool = True) -> nn.Module:
    method = family("operation").get(name)
    assert isinstance(method, Operation)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: nn.Module = method.make(8, affine=affine)
    return made


def given(kind: str) -> Tensor:
    return torch.randn(4, *SHAPES[kind], generator=torch.Generator().manual_seed(1))


@every_operation
def test_an_operation_keeps_the_shape_and_passes_a_gradient(name: str, kind: str) -> None:
    x = given(kind).requires_grad_()
    out = operation(name)(x)
    assert out.shape == x.shape
    (slope,) = torch.autograd.grad(out.square().sum(), x)
    assert torch.isfinite(slope).all()
    assert bool(slope.any()) == (name != "none")


@every_operation
def test_norms_neither_scale_nor_shift_in_a_mixture(name: str, kind: str) -> None:
    norms = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
    plain = [m for m in operation(name, affine=False).modules() if isinstance(m, norms)]
    assert all(not list(m.parameters()) for m in plain)
    affine = [m for m in operation(name).modules() if isinstance(m, norms)]
    assert len(affine) == len(plain)
    assert all(list(m.parameters()) for m in affine)


@pytest.mark.parametrize("name", [c.values[0] for c in CASES if c.values[1] == "tokens"])
def test_an_operation_on_tokens_sees_no_place_ahead(name: object) -> None:
    net, x = operation(str(name)).eval(), given("tokens")
    changed = x.clone()
    changed[:, 6:] += 1
    torch.testing.assert_close(net(x)[:, :6], net(changed)[:, :6])


def test_what_an_operation_sees_is_as_wide_as_its_name_says() -> None:
    def sight(name: str) -> int:
        x = torch.zeros(1, 8, 15, 15, requires_grad=True)
        out = operation(name).eval()(x + 1e-3 + torch.rand(1, 8, 15, 15))
        (slope,) = torch.autograd.grad(out[0, :, 7, 7].sum(), x)
        return int((slope.abs().sum((0, 1, 2)) > 0).sum())

    # Pooling's largest value lies somewhere within its 3 pixels.
    wanted = {"conv1": 1, "conv3": 3, "sep3": 5, "sep5": 9, "dil3": 3, "avg_pool": 3}
    assert {name: sight(name) for name in wanted} == wanted


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_what_its_edges_say(name: str) -> None:
    method = family("architecture").get(name)
    assert isinstance(method, Architecture)
    edges = list(method.parts)
    chosen = [str(method.ranges[e].default) for e in edges]
    made = method.network(CELLS[name], {})
    kinds = {type(m) for m in made.modules()}
    assert {type(operation(n)) for n in chosen} <= kinds | {nn.Sequential, nn.Identity}
    # One edge changed changes the network.
    weights = sum(p.numel() for p in made.parameters())
    other = method.network(CELLS[name], {edges[0]: "none"})
    assert sum(p.numel() for p in other.parameters()) < weights


def test_two_cells_of_an_image_network_halve_the_image_and_double_the_width() -> None:
    method = family("architecture").get("image_cells")
    assert isinstance(method, Architecture)
    net = method.network(CELLS["image_cells"], {"cells": 6, "width": 4})
    cells = [m for m in net.modules() if isinstance(m, ImageCellsCell)]
    assert [c.halves for c in cells] == [False, False, True, False, True, False]
    assert [c.edges["02"][1].in_channels for c in cells] == [4, 4, 8, 8, 16, 16]  # type: ignore[index]
    x = torch.zeros(2, 1, 8, 8)
    assert net(x).shape == (2, 10)


def test_one_choice_serves_an_edge_in_every_cell() -> None:
    asked: list[str] = []

    def place(edge: str, make: object) -> nn.Module:
        asked.append(edge)
        return make("skip", affine=False, parts=2)  # type: ignore[operator,no-any-return]

    by_name(text_cells_network)(CELLS["text_cells"], place, width=8, cells=2, dropout=0.0)
    assert asked == ["mix1", "mix2", "mix3", "mix4"] * 2
    asked.clear()
    by_name(image_cells_network)(CELLS["image_cells"], place, width=8, cells=3, dropout=0.0)
    assert len(asked) == 27
    assert sum(e.startswith("reduction_") for e in asked) == 18
