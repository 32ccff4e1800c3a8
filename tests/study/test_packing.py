"""Who trains with whom: sizes from what was measured, groups of what walks together, resumption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from automl.errors import StudyError
from automl.executors.simulated import Simulated
from automl.recipe import Recipe
from automl.records import Pack, Packing, Report, Segment, Slot, Status, TaskCard
from automl.search.strategy import make_strategy
from automl.space.ranges import Choice, Float, Int, Value
from automl.space.tree import Space
from automl.study.budget import Budget
from automl.study.packing import (
    Group,
    Packer,
    Size,
    by_slot,
    checked_pack,
    declined,
    engine_of,
    gain_of,
    joins,
    largest_pack,
    paddable,
    size_for,
    size_left,
    slots_left,
    slots_of,
    trainings_alike,
    worth_leaving,
)
from automl.study.state import State, StudyConfig, replay
from automl.study.telling import next_segment, retell

SPACE = Space(
    {
        "optimizer": Choice({"sgd": {"lr": Float(1e-3, 1, log=True)}, "lion": {}}),
        "batch_size": Choice([32, 64]),
        "model.width": Int(8, 64, log=True),
    }
)
CARD = TaskCard(
    name="t", kind="vector", metric="accuracy", direction="maximize", space=SPACE.to_json(),
    steps=90, eval_steps=10, batch_size=64,
)  # fmt: skip


def config(pack: str = "auto", **change: Any) -> StudyConfig:
    made = StudyConfig(
        name="t", task="t", card=CARD, strategy="random", fidelity=(10, 90, 3),
        budget=("100trials",), seed=0, seeds=3, workers=2, pack=pack,
    )  # fmt: skip
    return replace(made, **change)


def recipe(width: int, batch_size: int = 64, **others: Value) -> Recipe:
    point: dict[str, Value] = {"optimizer": "lion", "batch_size": batch_size, "model.width": width}
    return Recipe({**point, **others}, steps=90)


def knowing(*found: tuple[Recipe, Packing]) -> State:
    state = State(config=config())
    state.packings += found
    return state


# Sizes ----------------------------------------------------------------------------------------


def test_what_pays_pays_for_smaller_networks_and_what_does_not_for_no_larger() -> None:
    pays, not_ = Packing(8, 2.0), Packing(1, 1.0, "too little")
    state = knowing((recipe(32), pays), (recipe(48, 128), not_))
    assert size_for(recipe(32), state, "auto", 16) == Size(8, found=pays)
    assert size_for(recipe(16, 32), state, "auto", 16) == Size(8, found=pays)
    assert size_for(recipe(64, 128), state, "auto", 16) == Size(1)
    assert size_for(recipe(64), state, "auto", 16) == Size(8, known=False)  # to be tried
    assert size_for(recipe(32), state, "auto", 4) == Size(4, found=pays)
    other = recipe(16, architecture="gru")
    assert size_for(other, state, "auto", 16) == Size(1, known=False)


def test_a_pack_that_did_not_fit_is_not_made_again() -> None:
    pays, fits = Packing(8, 2.0), Packing(4, 0.0, "a pack of 8 did not fit", unfit=8)
    state = knowing((recipe(32), pays), (recipe(32), fits))
    assert size_for(recipe(32), state, "auto", 16) == Size(4, found=pays)
    assert size_for(recipe(16), state, "auto", 16) == Size(8, found=pays)
    assert size_for(recipe(32), state, "8", 8) == Size(4, found=pays)
    state.packings.append((recipe(32), replace(fits, size=1, unfit=4)))
    assert size_for(recipe(32), state, "auto", 16) == Size(1)


def test_the_gain_that_is_told_is_that_of_the_members_who_train() -> None:
    rows = ((1, 0.001, 1.0), (4, 0.0005, 1.0), (8, 0.0003, 1.0))
    found = Packing(8, 10 / 3, rows=rows)
    members = [Segment(n, recipe(32), 0, 90) for n in range(8)]
    assert [Group(members[:n], 8, found).gain for n in (1, 4, 8)] == pytest.approx([0, 2, 10 / 3])
    assert Group(members, 8, replace(found, gain=5.0, engine="compiled")).gain == pytest.approx(5)
    assert Group(members, 8).gain == 0


def test_a_number_given_is_the_size_but_where_a_pack_has_failed() -> None:
    state = knowing((recipe(32), Packing(1, 1.0, "the model draws random numbers")))
    assert size_for(recipe(16), state, "6", 6) == Size(6)
    assert size_for(recipe(32), state, "6", 6) == Size(1)
    assert size_for(recipe(16), state, "off", 1) == Size(1)


def test_packs_are_compiled_where_the_smoke_trial_found_it_to_pay() -> None:
    found = Packing(8, 4.0, engine="compiled", compiled=4.0, compile_seconds=20.5)
    assert Packing.from_json(found.to_json()) == found
    state = knowing((recipe(32), found), (recipe(16), Packing(4, 2.0)))
    assert [engine_of(recipe(w), state) for w in (32, 16, 8)] == ["compiled", "traced", "traced"]


def test_trainings_alike_are_those_of_networks_that_the_space_leaves_as_they_are() -> None:
    fixed = Space({"optimizer": SPACE["optimizer"].range, "batch_size": Choice([32, 64])})
    card = replace(CARD, space=fixed.to_json())
    half = trainings_alike(config(card=card), 100) / (100 / 2)  # two workers, two batch sizes
    assert 0.3 < half < 0.7
    assert trainings_alike(config(), 100) < 5


@pytest.mark.parametrize(
    ("pack", "fulls", "largest"),
    [("auto", 100, 16), ("auto", 10, 10), ("auto", 1, 1), ("off", 100, 1), ("32", 3, 32)],
)
def test_a_search_of_few_trainings_is_not_made_in_one_pack(
    pack: str, fulls: float, largest: int
) -> None:
    assert largest_pack(config(pack), fulls) == largest


def test_loops_of_ones_own_are_never_packed() -> None:
    assert largest_pack(config("8", card=replace(CARD, kind="loop")), 100) == 1


@pytest.mark.parametrize("text", ["yes", "1", "-2", "2.5", "100000"])
def test_a_pack_is_auto_off_or_a_number(text: str) -> None:
    assert checked_pack("12") == "12"
    with pytest.raises(StudyError, match="write auto, off, or how many"):
        checked_pack(text)


# Groups ---------------------------------------------------------------------------------------


def test_batch_sizes_of_one_class_share_packs_where_little_is_lost_by_it() -> None:
    def named(width: int, size: int, **more: Value) -> Recipe:
        return recipe(width, size, **{"model.norm": "layer", **more})

    pays = Packing(8, 3.0, padded=0.9)
    state = knowing((named(32, 64), pays), (named(64, 64), replace(pays, padded=0.3)))
    assert paddable(named(32, 64), state)
    assert paddable(named(16, 32), state)  # what paid pays for all that is smaller
    assert not paddable(named(64, 64), state)  # padding would eat up the gain
    assert not paddable(named(16, 32, **{"model.norm": "batch"}), state)  # nobody looked
    assert not paddable(named(32, 64), knowing((named(32, 64), replace(pays, padded=0.0))))

    sizes = (32, 64, 128, 17, 64)
    segments = [Segment(n, named(16, size), 0, 90) for n, size in enumerate(sizes)]
    groups = Packer("auto", 16).arranged(segments, 1, state)
    assert [[s.trial for s in g.segments] for g in groups] == [[0, 1, 3, 4], [2]]
    groups = Packer("auto", 16).arranged(segments, 1, knowing((named(32, 64), Packing(8, 3.0))))
    assert [[s.trial for s in g.segments] for g in groups] == [[0], [1, 4], [2], [3]]
    assert [joins(s, segments[1], state) for s in segments] == [True, True, False, True, True]
    assert [joins(s, segments[1], knowing()) for s in segments] == [False, True, False, False, True]


def strategy_asks(name: str = "random") -> Any:
    strategy = make_strategy(
        name, SPACE, fidelity=(10, 90, 3), direction="maximize", seed=1, budget=100
    )

    def ask(beside: Segment | None) -> Segment | None:
        return next_segment(strategy, True, beside.recipe if beside else None)

    return strategy, ask


@pytest.mark.parametrize("name", ["random", "tpe", "asha", "auto", "pbt"])
def test_new_trials_are_asked_for_until_the_pack_is_full(name: str) -> None:
    _, ask = strategy_asks(name)
    groups = Packer("8", 8).gather(ask, 3, State(config=config("8")))
    for group in groups:
        assert len({s.recipe.structure for s in group.segments}) == 1
        assert len({(s.start, s.stop) for s in group.segments}) == 1
    assert sorted(len(g.segments) for g in groups)[-2:] == [8, 8]
    numbers = sorted(s.trial for g in groups for s in g.segments)
    assert numbers == list(range(len(numbers)))
    slots = slots_of(groups)
    for group in groups:
        own = [slots[s.trial] for s in group.segments if s.trial in slots]
        assert sorted(slot.place for slot in own) == list(range(len(own)))
        assert {slot.size for slot in own} <= {len(group.segments)}


def test_what_comes_unasked_for_fills_a_group_that_has_room() -> None:
    _, ask = strategy_asks()
    first = ask(None)
    alike = [replace(first, trial=n) for n in range(3)]
    packer, state = Packer("8", 8), State(config=config("8"))
    groups = packer.gather(lambda b: None if b or not alike else alike.pop(0), 3, state)
    assert [[s.trial for s in g.segments] for g in groups] == [[0, 1, 2]]


def test_one_trial_of_a_kind_is_measured_while_others_go_alone() -> None:
    _, ask = strategy_asks()
    packer, state = Packer("auto", 16), State(config=config())
    first = packer.gather(ask, 2, state)
    assert [g.probe for g in first] == [16, 0]
    state.open = {s.trial: s for g in first for s in g.segments}
    assert [g.probe for g in packer.gather(ask, 1, state)] == [0]
    state.open = {}
    assert [g.probe for g in packer.gather(ask, 1, state)] == [16]


def test_what_paid_for_a_kind_is_tried_where_there_are_enough_to_try_it_with() -> None:
    _, ask = strategy_asks()
    first = ask(None)
    smaller = {n: v for n, v in first.recipe.shared.items() if isinstance(v, int)}
    near = Recipe({**first.recipe.point, **{n: v - 1 for n, v in smaller.items()}}, steps=90)
    state = knowing((near, Packing(4, 2.0)))
    again = [first]
    groups = Packer("auto", 16).gather(lambda beside: again.pop() if again else None, 1, state)
    assert [(g.members, g.probe) for g in groups] == [(4, 0)]
    several = [replace(first, trial=n) for n in range(3)]
    groups = Packer("auto", 16).gather(lambda b: several.pop() if several else None, 1, state)
    assert [(g.members, g.probe, len(g.segments)) for g in groups] == [(4, 4, 3)]
    assert not declined(first.recipe, state)
    assert declined(first.recipe, knowing((first.recipe, Packing(1, 1.1, "too little"))))


def test_what_is_left_of_a_pack_goes_on_together_where_so_few_still_gain() -> None:
    rows = ((1, 0.001, 1.0), (4, 0.0005, 1.0), (8, 0.0003, 1.0))  # an update: 1, 2 and 2.4 ms
    found = Packing(8, 3.3, rows=rows)
    assert gain_of(found, 2) == pytest.approx(2 / (1 + 1 / 3))
    left = [Segment(n, recipe(32), 0, 90) for n in range(3)]
    slow = Packing(8, 1.2, rows=((1, 0.001, 1.0), (8, 0.0011 / 1.2, 1.0)))
    assert size_left(left, knowing((recipe(32), found))) == 3
    assert size_left(left, knowing((recipe(32), slow))) == 1
    assert size_left(left, knowing()) == 1 and size_left([*left, left[0]], knowing()) == 4
    assert {slot.pack for slot in slots_left(left, 3)} == {"0@0 left"}
    assert len({slot.pack for slot in slots_left(left, 1)}) == 3
    whole, state = Slot("0@0", 0, 8), knowing()
    assert worth_leaving(left, whole, state) and not worth_leaving(left, Slot("0@0", 0, 4), state)


def test_finals_are_spread_over_the_workers() -> None:
    recipes = [replace(recipe(w), seed=s) for w in (16, 32) for s in range(6)]
    segments = [Segment(n, r, 0, 90) for n, r in enumerate(recipes)]
    groups = Packer("16", 16).arranged(segments, 2, State(config=config("16")))
    assert [[s.trial for s in g.segments] for g in groups] == [
        [0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11],
    ]  # fmt: skip


def test_a_pack_goes_no_further_than_the_budget() -> None:
    state = replay([{"kind": "study", "config": config(budget=("20full",)).to_json(), "at": 0.0}])
    budget = Budget.parse(["20full"])
    whole = [Segment(n, recipe(16), 0, 90) for n in range(20)]
    assert budget.room(state, whole[:12]) and not budget.room(state, whole[:13])
    assert Budget.parse(["3trials"]).new_trials(state, 2)
    assert not Budget.parse(["3trials"]).new_trials(state, 3)
    sam = [Segment(20 + n, recipe(16, gradient="sam"), 0, 90) for n in range(9)]
    assert budget.room(state, sam)
    state.apply(asked(sam[0]))
    two_a_step = Report(20, 0, 30, Status.DIVERGED, passes=60)
    state.apply({"kind": "report", "report": two_a_step.to_json(), "at": 1.0})
    assert budget.room(state, sam[1:6]) and not budget.room(state, sam[1:7])


# The journal ----------------------------------------------------------------------------------


def asked(segment: Segment, slot: Slot | None = None, like: int | None = None) -> dict[str, Any]:
    event: dict[str, Any] = {
        "kind": "ask", "segment": segment.to_json(), "phase": "search", "label": "", "new": True,
        "at": 0.0,
    }  # fmt: skip
    if like is not None:
        event["like"] = like
    return event if slot is None else {**event, "slot": slot.to_json(), "gain": 2.0}


def test_asks_beside_another_trial_are_retold_as_they_were() -> None:
    strategy, ask = strategy_asks("tpe")
    groups = Packer("4", 4).gather(ask, 2, State(config=config("4")))
    slots = slots_of(groups)
    found = {s.trial: (g, s) for g in groups for s in g.segments}
    events = [{"kind": "study", "config": config("4").to_json(), "at": 0.0}]
    for trial, (group, segment) in sorted(found.items()):
        first = group.segments[0].trial
        events.append(asked(segment, slots.get(trial), None if first == trial else first))
    again, _ = strategy_asks("tpe")
    retell(again, list(enumerate(events)))
    assert again.ask(3) == strategy.ask(3)
    state = replay(events)
    assert state.slots == slots
    packs = by_slot(state.open.values(), state.slots)
    assert [sorted(s.trial for s in p) for p in packs] == [
        sorted(s.trial for s in g.segments) for g in groups
    ]


def test_a_lost_pack_comes_back_in_halves_and_a_finished_one_gives_its_slots_back() -> None:
    segments = [Segment(n, recipe(16), 0, 90) for n in range(4)]
    events = [{"kind": "study", "config": config("4").to_json(), "at": 0.0}]
    events += [asked(s, Slot("0", s.trial, 4)) for s in segments]
    lost = [Report(n, 0, 0, Status.LOST) for n in range(4)]
    done = [Report(n, 0, 90, Status.DONE, packed=2) for n in range(2)]
    state = replay(events)
    for report in lost:
        state.apply({"kind": "report", "report": report.to_json(), "at": 1.0})
    assert state.slots == {n: Slot(f"0.{n // 2}", n % 2, 2) for n in range(4)}
    for report in done:
        state.apply({"kind": "report", "report": report.to_json(), "at": 2.0})
    assert set(state.slots) == {2, 3} and state.packed == {0, 1}


def test_packs_run_on_recorded_curves_too() -> None:
    simulated = Simulated(lambda r, step: ({"val/accuracy": 0.5}, float(step)), workers=2)
    simulated.submit(Pack(tuple(Segment(n, recipe(16), 0, 90) for n in range(3)), "", size=3))
    assert sorted(r.trial for r in simulated.reports()) == [0, 1, 2]
