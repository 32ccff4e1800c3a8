"""What every learning-rate schedule promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.methods.stages import Schedule
from automl.registry import family
from automl.space.ranges import Value

GOLDEN = Path(__file__).parents[1] / "golden" / "schedules.txt"
NAMES = family("schedule").names()


def _schedule(name: str) -> Schedule:
    method = family("schedule").get(name)
    assert isinstance(method, Schedule)
    return method


def _golden() -> Iterator[tuple[str, dict[str, Value], list[float]]]:
    for line in GOLDEN.read_text().splitlines():
        if not line.startswith("#"):
            name, keywords, values = line.split("|")
            yield name.strip(), json.loads(keywords), [float(v) for v in values.split()]


@st.composite
def _hyper(draw: st.DrawFn, name: str) -> dict[str, Value]:
    ranges = _schedule(name).ranges
    return {n: r.decode(draw(st.floats(0, 1))) for n, r in ranges.items()}


@pytest.mark.parametrize(("name", "keywords", "values"), list(_golden()))
def test_equals_its_golden_list(name: str, keywords: dict[str, Value], values: list[float]) -> None:
    base, _, second = name.partition(".")
    schedule = _schedule(base)
    function = schedule.momentum if second else schedule.factor
    assert function is not None
    found = [function(step, len(values), **keywords) for step in range(len(values))]
    assert found == pytest.approx(values, abs=1e-4)


def test_every_schedule_has_a_golden_list() -> None:
    assert {name.partition(".")[0] for name, _, _ in _golden()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data(), horizon=st.integers(1, 10**6), place=st.floats(0, 1))
def test_factor_lies_in_the_unit_interval_and_the_first_step_moves(
    name: str, data: st.DataObject, horizon: int, place: float
) -> None:
    factor, hyper = _schedule(name).factor, data.draw(_hyper(name))
    assert 0 <= factor(round(place * (horizon - 1)), horizon, **hyper) <= 1
    assert 0 < factor(0, horizon, **hyper) <= 1


@pytest.mark.parametrize("name", NAMES)
@settings(derandomize=True, deadline=None, max_examples=40)
@given(data=st.data(), horizon=st.integers(1, 10**5), beyond=st.integers(0, 10**5))
def test_past_the_end_it_stays_at_its_last_value(
    name: str, data: st.DataObject, horizon: int, beyond: int
) -> None:
    schedule, hyper = _schedule(name), data.draw(_hyper(name))
    for function in filter(None, (schedule.factor, schedule.momentum)):
        last = function(horizon - 1, horizon, **hyper)
        assert function(horizon + beyond, horizon, **hyper) == pytest.approx(last, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_peak_is_reached(name: str) -> None:
    factor, ranges = _schedule(name).factor, _schedule(name).ranges
    hyper = {n: r.default for n, r in ranges.items()}
    # A decaying cycle has lost a little by its first peak (exp_range); all others reach 1.
    least = 0.85 if "last" in ranges else 0.999
    assert least <= max(factor(step, 1000, **hyper) for step in range(1000)) <= 1


def _torch_values(
    make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler], steps: int
) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    scheduler = make(optimizer)
    values = []
    for step in range(steps):
        values.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return values


def test_cosine_and_linear_equal_torch() -> None:
    lr_scheduler = torch.optim.lr_scheduler
    cosine, linear = _schedule("cosine").factor, _schedule("linear").factor
    assert [cosine(s, 50, end=0.1) for s in range(50)] == pytest.approx(
        _torch_values(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=0.1), 50)
    )
    assert [linear(s, 50, end=0.1) for s in range(50)] == pytest.approx(
        _torch_values(lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=50), 50)
    )


@settings(derandomize=True, deadline=None, max_examples=15)
# share from .2: where share*horizon is 1, torch divides by zero.
@given(horizon=st.integers(10, 200), share=st.floats(0.2, 0.5), div=st.floats(10, 25))
def test_one_cycle_equals_torch(horizon: int, share: float, div: float) -> None:
    factor = _schedule("one_cycle").factor
    expected = _torch_values(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, max_lr=1.0, total_steps=horizon, pct_start=share, div_factor=div
        ),
        horizon,
    )
    found = [factor(s, horizon, share=share, div=div) for s in range(horizon)]
    assert found == pytest.approx(expected, abs=1e-9)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(
    mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    half=st.integers(2, 20),
    cycles=st.integers(1, 6),
    base=st.floats(0.01, 0.5),
)
def test_cycles_equal_torch(
    mode: Literal["triangular", "triangular2", "exp_range"], half: int, cycles: int, base: float
) -> None:
    horizon = 2 * half * cycles
    expected = _torch_values(
        lambda o: torch.optim.lr_scheduler.CyclicLR(
            o, base, 1.0, half, mode=mode, gamma=0.3 ** (1 / horizon), cycle_momentum=False
        ),
        horizon,
    )
    factor = _schedule(mode).factor
    found = [factor(s, horizon, base=base, cycles=cycles) for s in range(horizon)]
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("growth", [1, 2])
def test_restarts_equal_torch(growth: int) -> None:
    first, cycles = 7, 3
    horizon = first * sum(growth**i for i in range(cycles))
    expected = _torch_values(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, first, growth), horizon
    )
    factor = _schedule("cosine_restarts").factor
    found = [factor(s, horizon, cycles=cycles, growth=growth) for s in range(horizon)]
    assert found == pytest.approx(expected, abs=1e-9)


def test_steps_and_powers_equal_torch() -> None:
    lr_scheduler = torch.optim.lr_scheduler
    step, polynomial = _schedule("step").factor, _schedule("polynomial").factor
    assert [step(s, 50, every=0.3, gamma=0.2) for s in range(50)] == pytest.approx(
        _torch_values(lambda o: lr_scheduler.StepLR(o, 15, 0.2), 50)
    )
    assert [polynomial(s, 50, power=0.9) for s in range(50)] == pytest.approx(
        _torch_values(lambda o: lr_scheduler.PolynomialLR(o, 50, 0.9), 50)
    )
