"""What people are told of packs: how many, how fast, and why not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from automl.records import Packing
from automl.reports import pack_words
from automl.study.state import State

from .conftest import MakeStudy

ROWS = ((1, 0.001, 200.0), (2, 0.0006, 210.0), (4, 0.0004, 230.0), (8, 0.0002, 260.0))
FAST = Packing(8, 5.0, rows=ROWS)
REASON = "the model checkpoints its activations"


@pytest.fixture
def state(made_up: MakeStudy) -> State:
    made = made_up(6)
    return opened(replace(made, packings=[], packed=set(), gains={}), pack="auto", packing=FAST)


def opened(state: State, **changes: Any) -> State:
    assert state.config is not None
    state.config = replace(state.config, **changes)
    return state


def test_the_share_and_the_speed_of_packed_trials_are_told(state: State) -> None:
    state.packed, state.gains = {0, 1, 2}, {0: 3.0, 1: 4.0, 2: 0.0}
    assert pack_words.packed(state) == "packed 3, 3.5x"
    text = f"3 of {len(state.trials)} trials trained in packs, each about 3.5 times as fast as"
    assert pack_words.sentence(state).startswith(text)
    assert pack_words.declined(state) == ""


def test_each_reason_is_told_once_with_all_that_it_holds_for(state: State) -> None:
    base, other = state.trials[0].recipe, state.trials[1].recipe
    wide = replace(base, point={**base.point, "batch_size": 128, "model.width": 200})
    for recipe in (base, wide):
        found = Packing(1, 1.0, REASON)
        state.packings.append((recipe, found))
        told = f"trials like the baseline train alone: {REASON}"
        assert pack_words.smaller(state, recipe, found) == ("" if recipe is wide else told)
    state.packings.append((other, FAST))
    assert pack_words.smaller(state, other, FAST) == ""
    kinds = "trials like the baseline or with batch size 128, model.width 200 train alone"
    assert pack_words.sentence(state).endswith(f"trained in a pack; {kinds}: {REASON}")


def test_a_pack_that_did_not_fit_is_told_once(state: State) -> None:
    base, found = state.trials[0].recipe, Packing(8, 0.0, "a pack of 16 did not fit", unfit=16)
    told = "trials like the baseline train 8 at a time: a pack of 16 did not fit"
    for expected in (told, ""):
        state.packings.append((base, found))
        assert pack_words.smaller(state, base, found) == expected
    assert pack_words.sentence(state).endswith(f"; {told}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pack": "off"}, "--pack off"),
        ({"budget": ("1trials",)}, "a search of 1 full training is too short"),
    ],
)
def test_a_study_that_packs_nothing_says_why(
    state: State, changes: dict[str, Any], words: str
) -> None:
    opened(state, **changes)
    assert words in pack_words.sentence(state)
    assert (words in pack_words.declined(state)) == (changes.get("pack") != "off")


def test_the_smoke_trial_says_what_it_measured(state: State) -> None:
    assert pack_words.measured(FAST) == "packs of 8 such trials train 5.0 times as fast"
    alone = "trials like the baseline train alone: "
    assert pack_words.measured(Packing(1, 1.0, REASON)) == alone + REASON
    opened(state, packing=Packing(1, 1.0, REASON))
    assert pack_words.declined(state) == alone + REASON


def test_a_smaller_pack_is_as_fast_as_it_was_timed() -> None:
    assert FAST.up_to(8) is FAST
    assert (FAST.up_to(5).size, FAST.up_to(5).gain) == (4, 2.5)
