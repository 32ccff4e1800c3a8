"""What every method promises that acts on weights and gradients.

Optimizers, gradients, transforms and averages, each in turn beside the plain choice of the other
stages. Nothing is listed here: a new file is held to all of it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from automl.methods.stages import Gradient, Optimizer
from automl.registry import family

from .tiny_problem import BASELINE, LAYOUT, OwnDraws, Run, losses, packed, values_at, weights

METHODS = [(key, name) for key in BASELINE for name in family(key).names()]
every_method = pytest.mark.parametrize(("key", "name"), METHODS)

# Without shrinking: it would repeat a failing training for minutes.
QUICK = settings(derandomize=True, deadline=None, phases=[Phase.generate])


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def _looks(name: str) -> bool:
    method = family("optimizer").get(name)
    assert isinstance(method, Optimizer)
    return method.looks


def _chain(name: str) -> bool:
    method = family("gradient").get(name)
    assert isinstance(method, Gradient)
    return method.chain


def _draw(data: st.DataObject, stages: dict[str, str]) -> dict[str, float]:
    names = values_at(stages)
    return values_at(stages, {n: data.draw(st.floats(0, 1), label=n) for n in names})


@every_method
@settings(QUICK, max_examples=6)
@given(data=st.data())
def test_packed_members_equal_their_single_runs(key: str, name: str, data: st.DataObject) -> None:
    stages = {key: name}
    ages = data.draw(st.permutations([1, 2, 7]), label="ages")
    runs = [Run(weights(s), [_draw(data, stages)], stages, seeds=[s]) for s in range(3)]
    for run, age in zip(runs, ages, strict=True):
        run.steps(age)
    pack = packed(runs)
    # Few steps: at the edge of a range training is chaotic, and rounding grows without a fault.
    found = pack.steps(3)
    expected = torch.cat([run.steps(3) for run in runs], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)
    kept = torch.cat([run.evaluated() for run in runs])
    scale = kept.abs().amax(1, keepdim=True)
    torch.testing.assert_close(
        pack.evaluated() / scale, kept / scale, rtol=0, atol=1e-9, equal_nan=True
    )


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_resumed_run_equals_unbroken_run(
    key: str, name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    stages = {key: name}
    run = Run(weights(dtype=dtype), [values_at(stages)], stages)
    run.steps(33)  # past the start of SWA
    save_file(run.tensors(), tmp_path / "state.safetensors")
    unbroken = run.steps(7)

    resumed = Run(weights(seed=5, dtype=dtype), [values_at(stages)], stages)
    resumed.load(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(resumed.steps(7), unbroken)
    for tensor, other in zip(run.tensors().values(), resumed.tensors().values(), strict=True):
        assert torch.equal(tensor, other)
        assert tensor.dtype == dtype
    assert torch.equal(run.evaluated(), resumed.evaluated())


@every_method
@settings(QUICK, max_examples=12)
@given(data=st.data())
def test_finite_or_seen_to_diverge_on_its_whole_range(
    key: str, name: str, data: st.DataObject
) -> None:
    stages = {key: name}
    names = values_at(stages)
    edges = {n: data.draw(st.sampled_from([0.0, 0.5, 1.0]), label=n) for n in names}
    run = Run(weights(dtype=torch.float32), [values_at(stages, edges)], stages)
    run.steps(15)
    if not run.w.isfinite().all():
        assert not run.step().isfinite().all()
        assert not losses(run.evaluated()).isfinite().all()


@every_method
def test_diverged_member_leaves_its_neighbours_alone(key: str, name: str) -> None:
    stages = {key: name}
    alone = Run(weights(2), [values_at(stages)], stages)
    pack = packed([Run(weights(seed), [values_at(stages)], stages) for seed in range(3)])
    pack.w[1] = torch.nan
    alone.steps(20)
    pack.steps(20)
    kept = alone.evaluated()
    scale = kept.abs().amax()
    torch.testing.assert_close(pack.evaluated()[2:] / scale, kept / scale, rtol=0, atol=1e-9)


@every_method
def test_lowers_the_loss_at_its_defaults(key: str, name: str) -> None:
    stages = {key: name}
    run = Run(weights(), [values_at(stages)], stages)
    first = run.steps(40)[0]
    assert losses(run.w) < first
    assert losses(run.evaluated()) < first


@every_method
def test_everything_keeps_the_dtype_of_the_weights(key: str, name: str) -> None:
    run = Run(weights(dtype=torch.float32), [values_at({key: name})], {key: name})
    assert run.step().dtype == torch.float32
    assert {x.dtype for x in [*run.tensors().values(), run.evaluated()]} == {torch.float32}


@pytest.mark.parametrize("name", [n for n in family("gradient").names() if not _chain(n)])
def test_gradient_counts_its_passes_and_leaves_the_weights(name: str) -> None:
    method = family("gradient").get(name)
    assert isinstance(method, Gradient)
    run = Run(weights(), [values_at({"gradient": name})], {"gradient": name})
    before, calls = run.w.clone(), list[bool]()

    def closure(statistics: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(statistics)
        return run._closure()

    for t in range(1, 11):  # some methods make a pass in every n-th step only
        made = len(calls)
        method.compute(closure, run.w, run.states["gradient"], run._tensors(), run.t + t)
        assert torch.equal(run.w, before)
        assert calls[made:] == [True] + [False] * (len(calls) - made - 1)
    assert len(calls) == pytest.approx(10 * method.passes)


@pytest.mark.parametrize("name", [n for n in family("gradient").names() if _chain(n)])
def test_gradient_that_opens_the_network_costs_what_it_declares(name: str) -> None:
    method = family("gradient").get(name)
    assert isinstance(method, Gradient)
    run = Run(weights(), [values_at({"gradient": name})], {"gradient": name})
    before, chain = run.w.clone(), run.chain()
    state, hyper = run.states["gradient"], run._tensors()
    method.compute(run._closure, run.w, state, hyper, run.t + 1, chain)
    assert torch.equal(run.w, before)
    assert chain.passes == pytest.approx(method.passes, rel=0.01)


@pytest.mark.parametrize("name", [n for n in family("optimizer").names() if _looks(n)])
def test_looking_optimizer_costs_what_it_declares(name: str) -> None:
    method = family("optimizer").get(name)
    assert isinstance(method, Optimizer)
    run = Run(weights(), [values_at({"optimizer": name})], {"optimizer": name})
    state, extra = method.init(run.w, LAYOUT), 0.0
    for t in range(1, 41):
        looks = run.looks(OwnDraws([0], [t]))
        _, g = run._closure()
        method.step(run.w, g, state, run._tensors(), run.t + t, LAYOUT, looks)
        extra += looks.passes
    assert 1 + extra / 40 == pytest.approx(method.passes, rel=0.1)


@pytest.mark.parametrize(
    ("key", "name"), [(k, n) for k in ("optimizer", "gradient") for n in family(k).names()]
)
def test_state_is_as_large_as_declared(key: str, name: str) -> None:
    method = family(key).get(name)
    assert isinstance(method, Optimizer | Gradient)
    state = method.init(weights(), LAYOUT)
    # A share of 1 % is left for numbers of the whole member, such as a sum.
    assert sum(x.numel() for x in state.values()) / LAYOUT.size == pytest.approx(
        method.buffers, abs=0.01
    )
    assert all(x.shape[0] == 1 for x in state.values())


def _fingerprints() -> dict[str, str]:
    prints = {}
    for key, name in METHODS:
        run = Run(weights(dtype=torch.float32), [values_at({key: name})], {key: name})
        run.steps(5)
        prints[f"{key}.{name}"] = hashlib.sha256(run.evaluated().numpy().tobytes()).hexdigest()
    return prints


def test_another_process_gives_the_same_weights() -> None:
    other = subprocess.run(
        [sys.executable, "-W", "error", "-m", __name__],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(other.stdout) == _fingerprints()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(json.dumps(_fingerprints()))
