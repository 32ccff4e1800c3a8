"""Optimizers of the pytorch-optimizer package under their own names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from automl.errors import MethodError
from automl.methods.optimizers import _pytorch_optimizer_adapter as adapter
from automl.methods.stages import Optimizer
from automl.registry import family

from .tiny_problem import LAYOUT, Run, losses, packed, values_at, weights

# State as tensors; as lists and empty places; in numbers of the group; in two kinds of group;
# with weights to evaluate that are others.
NAMES = ("ADOPT", "soap", "prodigy", "muon", "ScheduleFreeAdamW")
each_kind = pytest.mark.parametrize("name", [f"pytorch_optimizer:{n}" for n in NAMES])


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def run(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Run:
    stages = {"optimizer": name}
    return Run(weights(seed, dtype), [values_at(stages)], stages, seeds=[seed])


@each_kind
def test_a_member_of_a_pack_equals_its_single_run_and_the_class_itself(name: str) -> None:
    singles = [run(name, seed) for seed in (0, 1)]
    pack = packed([run(name, seed) for seed in (0, 1)])
    pack.steps(12)
    for single in singles:
        single.steps(12)
    kept = torch.cat([one.evaluated() for one in singles])
    torch.testing.assert_close(pack.evaluated(), kept, rtol=1e-9, atol=1e-12)
    # The package rounds some steps (a QR) to float32.
    torch.testing.assert_close(kept[:1], _alone(name, 12), rtol=1e-6, atol=1e-7)


def _alone(name: str, steps: int) -> Tensor:
    """Weights [1, p] after steps of the class in an ordinary loop."""
    values, w = values_at({"optimizer": name}), weights()
    parts = [LAYOUT.view(w, s)[0].clone().requires_grad_() for s in LAYOUT.slots]
    groups = [{"params": parts[:3], "weight_decay": values["wd"]},
              {"params": parts[3:], "weight_decay": 0.0}]  # fmt: skip
    if name.endswith("muon"):
        groups[0]["use_muon"], groups[1]["use_muon"] = True, False
    make = importlib.import_module("pytorch_optimizer").load_optimizer(name.split(":")[1].lower())
    optimizer = make(groups, lr=values["lr"])
    for group, wd in zip(optimizer.param_groups, (values["wd"], 0.0), strict=True):
        group["lr"], group["weight_decay"] = values["lr"], wd
    for _ in range(steps):
        with torch.enable_grad():
            row = torch.cat([p.reshape(1, -1) for p in parts], 1)
            loss = losses(row).sum()
        grads = torch.autograd.grad(loss, parts)
        for p, g in zip(parts, grads, strict=True):
            p.grad = g
        optimizer.step()
    getattr(optimizer, "eval", lambda: None)()
    return torch.cat([p.detach().reshape(1, -1) for p in parts], 1)


@each_kind
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = run(name, dtype=torch.float32)
    whole.steps(13)
    save_file(whole.tensors(), tmp_path / "state.safetensors")
    unbroken = whole.steps(7)
    adapter.adapted.cache_clear()  # as in another process: nothing is remembered
    resumed = run(name, 5, torch.float32)
    resumed.load(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(resumed.evaluated(), run_at(whole, tmp_path).evaluated())
    assert torch.equal(resumed.steps(7), unbroken)
    assert torch.equal(resumed.evaluated(), whole.evaluated())


def run_at(other: Run, folder: Path) -> Run:
    again = Run(other.w.clone(), other.hyper, other.stages)
    again.load(load_file(folder / "state.safetensors"))
    return again


@each_kind
def test_it_lowers_the_loss_at_the_librarys_default(name: str) -> None:
    one = run(name)
    first = one.steps(40)[0]
    assert losses(one.evaluated()) < first
    method = family("optimizer").get(name)
    assert isinstance(method, Optimizer)
    assert set(method.ranges) == {"lr", "wd"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("adoptt", "pytorch_optimizer has no 'adoptt'; nearest: 'adopt'"),
        ("adahessian", "pytorch_optimizer:adahessian cannot step from a gradient alone"),
        ("a2grad", "pytorch_optimizer:a2grad has no learning rate with a default"),
    ],
)
def test_what_cannot_serve_is_refused_in_one_line(name: str, line: str) -> None:
    with pytest.raises(MethodError, match=line) as refused:
        family("optimizer").get(f"pytorch_optimizer:{name}")
    assert "\n" not in str(refused.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(MethodError, match=r'pip install "automl-service\[optimizers\]"'):
        adapter.adapted("came")
