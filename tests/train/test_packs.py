"""Packs through the door: slots, resumption, divergence, memory, and the probe."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from automl.checkpoints import Store
from automl.recipe import Recipe
from automl.records import Pack, Packing, Report, Segment, Slot, Status
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train import walk
from automl.train.probing import probe
from automl.train.segment import run
from automl.train.step import Program

from .small_problem import PLAIN, in_float64, network, small_task
from .test_engines import MIXED


def segments(points: Sequence[dict[str, Value]], stop: int = 20) -> list[Segment]:
    return [
        Segment(trial, Recipe(p, steps=20, seed=trial), 0, stop) for trial, p in enumerate(points)
    ]


def together(folder: Path, *found: Segment, size: int = 0, places: tuple[int, ...] = ()) -> Pack:
    size = size or len(found)
    return Pack(found, str(folder), True, size, places or tuple(range(len(found))))


def by_trial(reports: list[Report]) -> dict[int, Report]:
    return {r.trial: r for r in reports}


def weights(folder: Path, trial: int, step: int = 20) -> dict[str, Tensor]:
    return Store(folder).load(trial, step)[0]


def test_a_pack_brings_back_what_its_members_alone_would_have(tmp_path: Path) -> None:
    task = small_task()
    found = segments([in_float64(p) for p in MIXED])
    packed = by_trial(run(together(tmp_path / "pack", *found), task))
    for segment in found:
        (alone,) = run(Pack((segment,), str(tmp_path / "alone"), True), task)
        report = packed[segment.trial]
        assert (report.status, report.reached, report.packed) == (Status.DONE, 20, len(MIXED))
        assert (report.passes, alone.packed) == (alone.passes, 1)
        for (at, metrics), (step, expected) in zip(report.curve, alone.curve, strict=True):
            assert at == step
            assert metrics == pytest.approx(dict(expected), rel=1e-7)
        assert report.test == pytest.approx(alone.test)
        model = network(segment.recipe).double()
        kept = weights(tmp_path / "pack", segment.trial)
        model.load_state_dict(
            {n.removeprefix("model/"): x for n, x in kept.items() if n.startswith("model/")}
        )


def test_seconds_are_shared_among_the_members(tmp_path: Path) -> None:
    one, two = run(together(tmp_path, *segments([PLAIN, PLAIN])), small_task())
    assert one.seconds == pytest.approx(two.seconds) and one.seconds > 0


def test_a_pack_that_goes_on_without_some_of_its_company_keeps_every_bit(tmp_path: Path) -> None:
    task, found = small_task(), segments([{**p} for p in MIXED])  # float32
    run(together(tmp_path / "calm", *found), task)
    looks = iter(range(100))

    def after_ten() -> set[int]:
        return {1, 3} if next(looks) >= 10 else set()

    stormy = together(tmp_path / "stormy", *found)
    first = by_trial(run(stormy, task, stop=after_ten))
    assert [first[k].status for k in (1, 3)] == [Status.STOPPED] * 2
    rest = together(tmp_path / "stormy", found[1], found[3], size=len(MIXED), places=(1, 3))
    assert [r.status for r in run(rest, task)] == [Status.DONE] * 2
    for trial in range(len(MIXED)):
        calm, storm = (weights(tmp_path / n, trial) for n in ("calm", "stormy"))
        assert all(torch.equal(x, storm[name]) for name, x in calm.items())


def test_segments_of_one_pack_after_another_equal_the_unbroken_one(tmp_path: Path) -> None:
    task, found = small_task(), segments([PLAIN, {**PLAIN, "averaging": "ema"}])
    run(together(tmp_path / "whole", *found), task)
    run(together(tmp_path / "parts", *(replace(s, stop=10) for s in found)), task)
    later = [replace(s, start=10, parent=(s.trial, 10)) for s in found]
    run(together(tmp_path / "parts", *later), task)
    for trial in range(2):
        whole, parts = (weights(tmp_path / n, trial) for n in ("whole", "parts"))
        assert all(torch.equal(x, parts[name]) for name, x in whole.items())


def test_a_member_that_diverges_is_reported_and_touches_nobody(tmp_path: Path) -> None:
    task, bad = small_task(), {**PLAIN, "optimizer": "sgd", "optimizer.sgd.lr": 1e30}
    calm = segments([PLAIN, PLAIN, PLAIN])
    run(together(tmp_path / "calm", *calm), task)
    found = segments([PLAIN, bad, PLAIN])
    reports = by_trial(run(together(tmp_path / "bad", *found), task))
    assert [reports[k].status for k in range(3)] == [Status.DONE, Status.DIVERGED, Status.DONE]
    for trial in (0, 2):
        one, other = (weights(tmp_path / n, trial) for n in ("calm", "bad"))
        assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_too_large_a_pack_is_halved_and_goes_on(tmp_path: Path) -> None:
    alive: list[weakref.ref[nn.Module]] = []

    def build(recipe: Recipe) -> nn.Module:
        if sum(ref() is not None for ref in alive) >= 2:
            raise MemoryError
        model = network(recipe)
        alive.append(weakref.ref(model))
        return model

    task, found = small_task(build), segments([PLAIN] * 5)
    reports = by_trial(run(together(tmp_path, *found), task))
    assert {r.status for r in reports.values()} == {Status.DONE}
    assert [reports[k].packed for k in range(5)] == [1, 1, 1, 2, 2]  # 5 -> 3 + 2, 3 -> 1 each
    told = Packing(2, 0.0, "a pack of 5 did not fit into memory", unfit=5)
    assert [reports[k].packing for k in range(5)] == [told] * 5
    assert Packing.from_json(told.to_json()) == told


def test_halves_go_on_from_the_checkpoints_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight, alive, updates = False, list[weakref.ref[nn.Module]](), 0

    def build(recipe: Recipe) -> nn.Module:
        if tight and sum(ref() is not None for ref in alive) >= 2:
            raise MemoryError
        model = network(recipe)
        alive.append(weakref.ref(model))
        return model

    class Counted(Program):
        def step(self) -> Tensor:
            nonlocal updates
            updates += 1
            return super().step()

    task, pack = small_task(build), together(tmp_path / "halved", *segments([PLAIN] * 4))
    looks = iter(range(100))
    stopped = run(pack, task, stop=lambda: range(4) if next(looks) >= 10 else ())
    assert {(r.status, r.reached) for r in stopped} == {(Status.STOPPED, 10)}
    alive.clear()
    tight = True
    monkeypatch.setattr(walk, "Program", Counted)
    reports = run(pack, task)
    assert [(r.status, r.packed, r.passes) for r in reports] == [(Status.DONE, 2, 20.0)] * 4
    assert updates == 2 * 10  # ten of each half: none from the start
    whole = run(together(tmp_path / "whole", *segments([PLAIN] * 4)), small_task())
    for report, other in zip(reports, whole, strict=True):
        assert report.curve[-1][1] == pytest.approx(dict(other.curve[-1][1]), rel=1e-4)


def test_a_slot_halves_until_its_trial_is_alone() -> None:
    slots = [Slot("7", place, 5) for place in range(5)]
    halves = [slot.halved() for slot in slots]
    assert halves[0] == Slot("7.0", 0, 3) and halves[4] == Slot("7.1", 1, 2)
    assert halves[4].halved() is None
    assert Slot.from_json(slots[2].to_json()) == slots[2]


def test_a_probe_measures_packs_and_its_report_says_so(tmp_path: Path) -> None:
    task: ModelTask = small_task()
    (segment,) = segments([PLAIN], stop=5)
    (report,) = run(Pack((segment,), str(tmp_path), probe=4), task)
    found = report.packing
    assert found is not None
    assert [k for k, _, _ in found.rows] in ([1, 2, 4], [1, 2])
    assert all(seconds > 0 and mib > 0 for _, seconds, mib in found.rows)
    assert (found.size == 1) == (found.gain < 1.15) == bool(found.reason)
    assert Report.from_json(report.to_json()) == report
    whole = probe(task, segment.recipe, 8, whole=True)
    assert [k for k, _, _ in whole.rows] == [1, 2, 4, 8]
    assert Packing.from_json(whole.to_json()) == whole
    assert math.isfinite(whole.gain)


def test_a_pack_is_tried_first_where_asked_for_and_its_members_trained_all_the_same(
    tmp_path: Path,
) -> None:
    pack = replace(together(tmp_path / "tried", *segments([PLAIN] * 4)), probe=4)
    for report in run(pack, small_task()):
        packing = report.packing
        assert packing is not None and [row[0] for row in packing.rows] == [1, 4]
        assert report.packed == (4 if packing.size == 4 else 1) and report.status is Status.DONE
    draws = small_task(lambda recipe: _Choosing())
    reports = run(replace(pack, checkpoints=str(tmp_path / "declined")), draws)
    assert {(r.status, r.packed) for r in reports} == {(Status.DONE, 1)}
    assert {r.packing.size for r in reports if r.packing} == {1}


class _Choosing(nn.Module):
    """Looks at its data: no pack can."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x if x.sum() > 1000 else -x)
        return out
