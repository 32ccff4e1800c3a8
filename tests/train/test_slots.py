"""Slots of a pack: a trial that takes one begins as anywhere, and its neighbours notice nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train.segment import run
from automl.train.step import EngineName, Program

from .small_problem import PLAIN, in_float64, network, small_task
from .test_engines import MIXED
from .test_packs import by_trial, weights

BEFORE, AFTER = 7, 4  # updates


def build(recipe: Recipe) -> nn.Module:
    # A bias before batch norm has a gradient of rounding alone, which some optimizers follow.
    model = network(recipe)
    model.get_parameter("0.bias").requires_grad_(False)
    return model


def opened(recipe: Recipe) -> nn.Module:
    """Without batch norm: for gradients that go through the network layer by layer."""
    return nn.Sequential(
        *(m for m in network(recipe).children() if not isinstance(m, nn.BatchNorm1d))
    )


TASK = small_task(build)
OPENED = small_task(opened)


def cases() -> Iterator[dict[str, Value]]:
    """Recipes in which every method of the families of the training step turns up."""
    for name in family("optimizer").names():
        yield {"optimizer": name, "schedule": "cosine"}
    for name in family("gradient").names():
        yield {"optimizer": "sgd", "optimizer.sgd.lr": 0.03, "gradient": name}
    batches = [
        n
        for n in family("batch").names()
        if "vector" in getattr(family("batch").get(n), "kinds", ()) or n == "none"
    ]
    stages = {n: list(family(n).names()) for n in ("schedule", "averaging", "transform")}
    stages["batch"] = batches
    for i in range(max(map(len, stages.values()))):
        yield {**PLAIN, **{n: names[i % len(names)] for n, names in stages.items()}}


CASES = list(cases())


def named(point: dict[str, Value]) -> str:
    return "-".join(str(v) for n, v in point.items() if "." not in n)


def recipes(point: dict[str, Value], seeds: Sequence[int], steps: Sequence[int]) -> list[Recipe]:
    exact = in_float64(point)
    return [Recipe(exact, steps=n, seed=s) for s, n in zip(seeds, steps, strict=True)]


def stepped(program: Program, updates: int) -> Program:
    program.begin(program.updates + updates)
    for _ in range(updates):
        program.step()
    return program


def assert_same(pack: Program, k: int, alone: Program) -> None:
    """All that member k holds is what the member alone holds, to 1e-9 of its largest number."""
    ours, theirs = pack.state(k), alone.state(0)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        scale = expected.abs().max().clamp_min(1e-9) if expected.numel() else 1.0
        torch.testing.assert_close(ours[name] / scale, expected / scale, rtol=0, atol=1e-9)
    torch.testing.assert_close(pack.evaluated()[k], alone.evaluated()[0], rtol=1e-9, atol=1e-9)
    assert pack.clock[k] == alone.clock[0]


@pytest.mark.parametrize("point", CASES, ids=map(named, CASES))
def test_a_slot_refilled_is_a_fresh_run_and_the_others_train_on(point: dict[str, Value]) -> None:
    first, second, third = recipes(point, (1, 2, 3), (40, 40, 30))
    (late,) = recipes(point, (4,), (20,))
    task = OPENED if point.get("gradient") == "predictive_coding" else TASK
    pack = stepped(Program(task, [first, second, third]), BEFORE)
    pack.seat({1: late})
    stepped(pack, AFTER)
    assert_same(pack, 1, stepped(Program(task, [late]), AFTER))
    assert_same(pack, 2, stepped(Program(task, [third]), BEFORE + AFTER))


def test_methods_of_newcomers_may_be_others_in_the_traced_program_too() -> None:
    engine: EngineName = "traced"
    old = [Recipe(in_float64(p), steps=40, seed=k) for k, p in enumerate(MIXED[:4])]
    new = [Recipe(in_float64(p), steps=20 + k, seed=9 + k) for k, p in enumerate(MIXED[4:6])]
    pack = stepped(Program(TASK, old, engine=engine), BEFORE)
    pack.seat({0: new[0]})
    stepped(pack, 2)
    pack.seat({3: new[1]})
    stepped(pack, AFTER)
    made = [(old[1], BEFORE + 2 + AFTER), (old[2], BEFORE + 2 + AFTER), (new[1], AFTER)]
    for k, (recipe, updates) in zip((1, 2, 3), made, strict=True):
        assert_same(pack, k, stepped(Program(TASK, [recipe]), updates))
    assert_same(pack, 0, stepped(Program(TASK, [new[0]]), 2 + AFTER))


# Through the door -----------------------------------------------------------------------------


def alone(task: ModelTask, folder: Path, segment: Segment) -> Report:
    (report,) = run(Pack((segment,), str(folder)), task)
    return report


def trained_in_slots(
    task: ModelTask, folder: Path, pack: Pack, waiting: list[Segment], *, late: int = 0
) -> tuple[list[Report], list[list[int]]]:
    """Reports of the pack's segments and of those that took slots, and who ended when.

    Who takes a slot is said so many updates late.
    """
    early: list[Report] = []
    ends: list[list[int]] = []
    asked = 0  # times in a row without an answer

    def more(reports: Sequence[Report], free: Sequence[int]) -> list[tuple[int, Segment]] | None:
        nonlocal asked
        early.extend(reports)
        if reports:
            ends.append([r.trial for r in reports])
        if asked < late:
            asked += 1
            return None
        asked = 0
        return [(place, waiting.pop(0)) for place in free[: len(waiting)]]

    last = run(replace(pack, refill=True), task, more=more)
    ends.append([r.trial for r in last])
    return early + last, ends


def exact(trial: int, stop: int, *, start: int = 0, steps: int = 20, **point: Value) -> Segment:
    recipe = Recipe({**in_float64(PLAIN), **point}, steps=steps, seed=trial)
    return Segment(trial, recipe, start, stop, (trial, start) if start else None)


@pytest.mark.parametrize(("batch_size", "late"), [(16, 2), (12, 0), (32, 0)])
def test_members_of_any_step_share_a_pack_and_the_next_take_their_slots(
    tmp_path: Path, batch_size: int, late: int
) -> None:
    task, folder = small_task(build), tmp_path / "slots"
    size: dict[str, Any] = {"batch_size": batch_size}
    run(Pack((exact(0, 10, **size),), str(folder)), task)
    diverging = exact(2, 20, **{**size, "optimizer": "sgd", "optimizer.sgd.lr": 1e200})
    begin = (exact(0, 20, start=10, **size), exact(1, 20, **size), diverging)
    waiting = [exact(3, 5, **size), exact(4, 7, steps=30, **size), exact(5, 20, **size)]
    pack = Pack(begin, str(folder), size=3, places=(0, 1, 2))
    reports, ends = trained_in_slots(task, folder, pack, list(waiting), late=late)
    assert ends[0] == [2]
    assert sorted(t for trials in ends for t in trials) == list(range(6))
    found = by_trial(reports)
    assert found[2].status is Status.DIVERGED
    for segment in (begin[1], *waiting):
        expected = alone(task, tmp_path / "alone", segment)
        report = found[segment.trial]
        assert (report.status, report.reached, report.packed) == (Status.DONE, segment.stop, 3)
        assert (report.passes, report.start) == (expected.passes, 0)
        for (at, metrics), (step, others) in zip(report.curve, expected.curve, strict=True):
            assert at == step and metrics == pytest.approx(dict(others), rel=1e-9)
        ours, theirs = (
            weights(f, segment.trial, segment.stop) for f in (folder, tmp_path / "alone")
        )
        for name, x in theirs.items():
            torch.testing.assert_close(ours[name], x, rtol=1e-9, atol=1e-9)
    whole = alone(task, tmp_path / "whole", exact(0, 20, **size))
    assert found[0].curve[-1][1] == pytest.approx(dict(whole.curve[-1][1]), rel=1e-9)


def test_what_a_pack_costs_is_shared_among_those_who_train(tmp_path: Path) -> None:
    task = small_task(build)
    pack = Pack((exact(0, 20), exact(1, 5)), str(tmp_path), size=2, places=(0, 1))
    reports, _ = trained_in_slots(task, tmp_path, pack, [exact(2, 20)])
    found = by_trial(reports)
    assert math.isclose(found[0].passes, 20) and math.isclose(found[1].passes, 5)
    assert 0 < found[1].seconds < found[0].seconds


def test_a_pack_that_failed_is_trained_apart_with_those_who_joined(tmp_path: Path) -> None:
    built: list[int] = []

    def once(recipe: Recipe) -> nn.Module:
        built.append(recipe.seed)
        if recipe.seed == 2 and built.count(2) == 1:
            raise MemoryError
        return build(recipe)

    task = small_task(once)
    pack = Pack((exact(0, 20), exact(1, 5)), str(tmp_path), size=2, places=(0, 1))
    reports, ends = trained_in_slots(task, tmp_path, pack, [exact(2, 20)])
    assert ends == [[1], [0, 2]]
    assert {r.status for r in reports} == {Status.DONE}
    assert [by_trial(reports)[k].packed for k in range(3)] == [1, 2, 1]


def test_a_refilled_pack_that_does_not_fit_goes_on_in_halves(tmp_path: Path) -> None:
    built: list[int] = []

    def once(recipe: Recipe) -> nn.Module:
        built.append(recipe.seed)
        if recipe.seed == 4 and built.count(4) == 1:
            raise MemoryError
        return build(recipe)

    task = small_task(once)
    begin = (exact(0, 20), exact(1, 5), exact(2, 20), exact(3, 15))
    pack = Pack(begin, str(tmp_path), size=4, places=(0, 1, 2, 3))
    reports, ends = trained_in_slots(task, tmp_path, pack, [exact(4, 20)])
    assert ends[0] == [1] and sorted(ends[1]) == [0, 2, 3, 4]
    found = by_trial(reports)
    assert {r.status for r in reports} == {Status.DONE}
    assert [found[k].packed for k in range(5)] == [2, 4, 2, 2, 2]
    for k in (0, 4):
        whole = alone(small_task(build), tmp_path / "alone", exact(k, 20))
        assert found[k].curve[-1][1] == pytest.approx(dict(whole.curve[-1][1]), rel=1e-9)
        assert found[k].passes == whole.passes
