"""The conditional tree: active names, defaults, encoding, narrowing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.errors import SpaceError
from automl.space.overrides import narrowed
from automl.space.ranges import Choice, Float, Int
from automl.space.tree import Space

SPACE = Space(
    {
        "optimizer": Choice(
            {
                "sgd": {
                    "lr": Float(1e-3, 1, log=True, default=0.1),
                    "momentum": Float(0.5, 0.99, default=0.9),
                },
                "adam": {"lr": Float(1e-5, 1e-1, log=True, default=1e-3)},
                "none": {},
            }
        ),
        "width": Int(16, 256, log=True, default=64),
        "act": Choice(["relu", "gelu"]),
    }
)


def test_default_holds_active_names_only() -> None:
    assert SPACE.default() == {
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.1,
        "optimizer.sgd.momentum": 0.9,
        "width": 64,
        "act": "relu",
    }


@given(st.integers(0, 2**32 - 1))
def test_every_drawn_point_is_valid_and_survives_the_cube(seed: int) -> None:
    point = SPACE.sample(np.random.default_rng(seed))
    SPACE.validate(point)
    again = SPACE.decode(SPACE.encode(point))
    assert again.keys() == point.keys()
    assert SPACE.encode(again) == pytest.approx(SPACE.encode(point), abs=1e-4)


def test_a_space_survives_json() -> None:
    again = Space.from_json(json.loads(json.dumps(SPACE.to_json())))
    assert again.to_json() == SPACE.to_json()
    assert again.default() == SPACE.default()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer.adam.lr": 1e-3}, "optimizer.adam.lr is set, but optimizer = adam does not"),
        ({"width": 7}, "width = 7 lies outside log 16..256"),
        ({"widht": 64}, "no hyperparameter 'widht'; nearest: 'width'"),
        ({"act": "tanh"}, "act = tanh lies outside relu|gelu"),
    ],
)
def test_a_wrong_point_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message.replace("|", r"\|").replace("..", r"\.\.")):
        SPACE.validate({**SPACE.default(), **change})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "text", "range_"),
    [
        # An interval keeps its scale and its default while it can.
        ("optimizer.adam.lr", "1e-4..1e-2", Float(1e-4, 1e-2, log=True, default=1e-3)),
        ("optimizer.adam.lr", "1e-5..1e-4", Float(1e-5, 1e-4, log=True, default=1e-4)),
        ("optimizer.sgd.lr", "0.1..2", Float(0.1, 2.0, log=True, default=0.1)),
        ("width", "32..64", Int(32, 64, log=True, default=64)),
        ("width", "128", Choice([128])),
        ("width", "16,32", Choice([16, 32])),
        ("act", "gelu", Choice(["gelu"])),
    ],
)
def test_a_range_is_fixed_narrowed_or_listed(name: str, text: str, range_: object) -> None:
    assert narrowed(SPACE, name, text)[name].range == range_


def test_dropping_an_option_drops_what_it_opened() -> None:
    space = narrowed(SPACE, "optimizer", "adam,none")
    assert "optimizer.sgd.lr" not in space
    assert space.default()["optimizer"] == "adam"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("act", "tanh", "no option 'tanh'"),
        ("optimizer", "adm", "no option 'adm'; nearest: 'adam'"),
        ("width", "0.5..2", "no whole numbers"),
        ("width", "wide", "'wide' is no number"),
        ("widht", "3", "no hyperparameter 'widht'; nearest: 'width'"),
        ("width", "64..16", "low 64 is above high 16"),
    ],
)
def test_a_wrong_override_says_what_would_be_right(name: str, text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        narrowed(SPACE, name, text)


def test_size_counts_points_unless_a_dimension_is_real() -> None:
    assert Space({"a": Choice([1, 2]), "b": Int(1, 3)}).size() == 6
    assert SPACE.size() == float("inf")
