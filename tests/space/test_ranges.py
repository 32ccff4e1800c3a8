"""Ranges: bounds, defaults, the way to the unit interval and back, and the text form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.errors import SpaceError
from automl.space.ranges import Choice, Float, Int, Range, parse_range, range_from_json
from automl.space.tree import describe

units = st.floats(0, 1)


@st.composite
def floats(draw: st.DrawFn) -> Float:
    low = draw(st.floats(1e-8, 1e3))
    return Float(low, low * draw(st.floats(1, 1e6)), log=draw(st.booleans()))


@st.composite
def ints(draw: st.DrawFn) -> Int:
    low = draw(st.integers(1, 500))
    return Int(low, low + draw(st.integers(0, 5000)), log=draw(st.booleans()))


@given(floats(), units)
def test_a_drawn_float_lies_inside_and_keeps_its_place(range_: Float, unit: float) -> None:
    value = range_.decode(unit)
    assert range_.contains(value)
    assert range_.low == range_.high or math.isclose(
        range_.decode(range_.encode(value)), value, rel_tol=1e-4
    )


@given(ints(), units)
def test_a_drawn_int_is_its_own_place(range_: Int, unit: float) -> None:
    value = range_.decode(unit)
    assert range_.contains(value)
    assert range_.decode(range_.encode(value)) == value


@given(st.lists(st.integers(0, 99), min_size=1, unique=True), units)
def test_a_drawn_option_is_its_own_place(options: list[int], unit: float) -> None:
    range_ = Choice(options)
    assert range_.decode(range_.encode(range_.decode(unit))) == range_.decode(unit)


@given(st.one_of(floats(), ints()))
def test_a_range_survives_json(range_: Range) -> None:
    assert range_from_json(range_.to_json()) == range_


def test_log_int_gives_each_octave_a_like_share() -> None:
    drawn = [Int(1, 255, log=True).decode((i + 0.5) / 1000) for i in range(1000)]
    small = sum(v <= 15 for v in drawn)
    assert 500 < small < 640  # 15.5/0.5 against 255.5/15.5: 55 percent


@pytest.mark.parametrize(
    ("text", "range_"),
    [
        ("1e-5..1e-3", Float(1e-5, 1e-3)),
        ("log 1e-5..1e-3 = 1e-4", Float(1e-5, 1e-3, log=True, default=1e-4)),
        ("log 16..256 = 64", Int(16, 256, log=True, default=64)),
        ("-3..3", Int(-3, 3)),
        ("relu|gelu", Choice(["relu", "gelu"])),
        ("a, b = b", Choice(["a", "b"], default="b")),
        ("true|false", Choice([True, False])),
        ("128", Choice([128])),
    ],
)
def test_text_form(text: str, range_: Range) -> None:
    assert parse_range(text) == range_


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1..", "'1..' is no range"),
        ("5..1", "low 5 is above high 1"),
        ("log 0..1", "a log scale needs low > 0"),
        ("a..b", "is no range"),
        ("", "an empty range"),
        ("1..2 = 3", "default 3 lies outside 1..2"),
        ("a|a", "names an option twice"),
        ("0..inf", "is no range"),
    ],
)
def test_a_wrong_text_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_range(text)


@given(st.one_of(floats(), ints()))
def test_what_describe_prints_can_be_read_again(range_: Range) -> None:
    again = parse_range(describe(range_))
    if isinstance(range_, Float | Int) and isinstance(again, Float | Int):
        assert math.isclose(again.low, range_.low, rel_tol=1e-5)
        assert again.log == range_.log


def test_true_is_no_number() -> None:
    assert not Float(0, 2).contains(True)
    assert not Choice([1, 2]).contains(True)
