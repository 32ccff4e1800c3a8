"""Space files and `--set`: what can be written, and what a wrong line says."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.errors import SpaceError
from automl.registry import FAMILIES
from automl.space.files import compose, load_space, shipped
from automl.space.ranges import Choice, Float

ENTRIES = {
    "optimizer": ["adamw", "sgd"],
    "schedule": ["cosine", "wsd"],
    "batch_size": "32|64|128 = 64",
    "optimizer.adamw.lr": "1e-4..1e-2",
}


def test_a_stage_opens_the_hyperparameters_of_its_methods() -> None:
    space = compose(ENTRIES)
    point = space.default()
    assert point["optimizer"] == "adamw"
    assert point["batch_size"] == 64
    assert "optimizer.adamw.lr" in point
    assert "optimizer.sgd.lr" not in point
    lr = space["optimizer.adamw.lr"].range
    assert isinstance(lr, Float)
    assert (lr.low, lr.high, lr.log) == (1e-4, 1e-2, True)


def test_a_set_may_name_any_method_of_the_family() -> None:
    space = compose(ENTRIES, sets=["optimizer=lion", "optimizer.lion.lr=1e-5..1e-3"])
    assert space.default()["optimizer"] == "lion"
    lr = space["optimizer.lion.lr"].range
    assert isinstance(lr, Float)
    assert (lr.low, lr.high) == (1e-5, 1e-3)
    assert "optimizer.adamw.lr" not in space


def test_a_choice_of_numbers_takes_other_numbers() -> None:
    batch = compose(ENTRIES, sets=["batch_size=16,64"])["batch_size"].range
    assert batch == Choice([16, 64], default=64)


def test_a_pinned_stage_closes_for_the_method_that_pins_it() -> None:
    space = compose({**ENTRIES, "optimizer": ["adamw", "schedule_free_adamw"]})
    assert "schedule" in space.default()
    assert "schedule" not in space.complete({"optimizer": "schedule_free_adamw"})


def test_a_space_of_pinning_methods_has_no_such_stage() -> None:
    space = compose({**ENTRIES, "optimizer": ["schedule_free_adamw"]})
    assert "schedule" not in space


def test_a_chain_opens_each_of_its_methods() -> None:
    space = compose({"transform": ["none", "clip_norm"]})
    clips = [d.name for d in space if d.name.startswith("transform.clip_norm.")]
    assert clips
    assert not any(name in space.default() for name in clips)
    assert all(name in space.complete({"transform": "clip_norm"}) for name in clips)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["optimizer=adamww"], "no optimizer named 'adamww'; nearest: 'adamw'"),
        (["optimizer=adamw+sgd"], "only one optimizer can be chosen"),
        (["optimizer.adamw.lr=1..0.1"], "--set optimizer.adamw.lr: low 1 is above high 0.1"),
        (["batch_sise=3"], "--set batch_sise: no hyperparameter 'batch_sise'"),
        (["batch_size"], "write NAME=VALUE"),
        (["batch_size=wide"], "no option 'wide'"),
        (["batch_size=16.5"], "16.5 is no whole number; options: "),
    ],
)
def test_a_wrong_set_is_named(sets: list[str], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        compose(ENTRIES, sets=sets)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_space_loads_and_says_who_it_is_for(name: str) -> None:
    space = load_space(name)
    space.validate(space.default())
    assert len(shipped()[name]) > 20


@pytest.mark.parametrize("key", FAMILIES)
def test_every_method_can_stand_in_a_space(key: str) -> None:
    names = list(FAMILIES[key].names())
    if names:
        space = compose({key: names})
        choice = space[key].range
        assert isinstance(choice, Choice)
        for name in names:
            space.validate(space.complete({key: name}))


def test_a_file_that_is_not_there_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="or one of: "):
        load_space(tmp_path / "gone.toml")


def test_a_set_may_say_what_the_trainer_knows_though_the_space_does_not() -> None:
    space = load_space("quick", sets=("accumulate=2|4", "precision=float64", "batch_size=32"))
    point = space.default()
    assert (point["accumulate"], point["precision"], point["batch_size"]) == (2, "float64", 32)
    with pytest.raises(SpaceError, match="no hyperparameter 'acumulate'"):
        load_space("quick", sets=("acumulate=2",))


def test_a_folder_of_a_spaces_name_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quick").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "optimizer" in load_space("quick")
