"""One dimension of a space: Float, Int or Choice, and the one text form for all three.

A range knows its default (the prior, and the baseline's value), what lies inside it, and the
way to the unit interval and back. The text form is the same in a TOML file, after `--set` and in
an annotation of the user's model:

    16..256      whole numbers        0.1..0.9     real numbers
    log 16..256  on a log scale       relu|gelu    a choice (a comma does as well as the bar)
    128          one value: fixed
    log 16..256 = 64            any of these with its default
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl.errors import SpaceError

Value = float | int | str | bool | None

_INTERVAL = re.compile(r"^(?:(log)\s+)?(\S+?)\.\.(\S+?)(?:\s+(log))?$")
_DIGITS = 6  # significant digits of a drawn float: readable, and far below any effect on training


@dataclass(frozen=True, slots=True)
class Float:
    """Real numbers in [low, high], uniform or, with `log`, log-uniform.

    Raises:
        SpaceError: the bounds are upside down, not finite, or a log scale reaches 0.
    """

    low: float
    high: float
    log: bool = False
    default: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, self.log)
        middle = self.decode(0.5) if self.default is None else float(self.default)
        object.__setattr__(self, "default", middle)
        _check_default(self)

    def contains(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def encode(self, value: Value) -> float:
        """Place of `value` in [0, 1]."""
        low, high, x = self.low, self.high, float(value)  # type: ignore[arg-type]
        if low == high:
            return 0.5
        if self.log:
            return math.log(x / low) / math.log(high / low)
        return (x - low) / (high - low)

    def decode(self, unit: float) -> float:
        """The value at place `unit` in [0, 1], to six significant digits."""
        low, high = self.low, self.high
        x = low * (high / low) ** unit if self.log else low + unit * (high - low)
        return min(max(float(f"{x:.{_DIGITS}g}"), low), high)

    def to_json(self) -> dict[str, Any]:
        return {"float": [self.low, self.high], "log": self.log, "default": self.default}


@dataclass(frozen=True, slots=True)
class Int:
    """Whole numbers from low to high, both included; `log` gives each octave the same share.

    Raises:
        SpaceError: as for Float.
    """

    low: int
    high: int
    log: bool = False
    default: int | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, self.log)
        middle = self.decode(0.5) if self.default is None else self.default
        object.__setattr__(self, "default", middle)
        _check_default(self)

    def contains(self, value: object) -> bool:
        return _is_number(value) and value == int(value) and self.low <= value <= self.high  # type: ignore[call-overload,operator]

    def encode(self, value: Value) -> float:
        """Middle of the value's own interval in [0, 1]."""
        x = int(value)  # type: ignore[arg-type]
        if self.log:
            bottom, top = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return (math.log(x) - bottom) / (top - bottom)
        return (x - self.low + 0.5) / (self.high - self.low + 1)

    def decode(self, unit: float) -> int:
        if self.log:
            bottom, top = math.log(self.low - 0.5), math.log(self.high + 0.5)
            x = round(math.exp(bottom + unit * (top - bottom)))
        else:
            x = math.floor(self.low + unit * (self.high - self.low + 1))
        return min(max(x, self.low), self.high)

    def to_json(self) -> dict[str, Any]:
        return {"int": [self.low, self.high], "log": self.log, "default": self.default}


@dataclass(frozen=True, init=False)
class Choice:
    """One of several values, or of several named sub-spaces (a mapping from name to ranges).

    >>> Choice(["relu", "gelu"]).default
    'relu'
    >>> Choice({"sgd": {"lr": Float(1e-4, 1, log=True)}, "none": {}}).options
    ('sgd', 'none')
    """

    options: tuple[Value, ...]
    default: Value
    subspaces: Mapping[str, Mapping[str, Range]]

    def __init__(
        self,
        options: Sequence[Value] | Mapping[str, Mapping[str, Range]],
        *,
        default: Value = None,
    ) -> None:
        subspaces = options if isinstance(options, Mapping) else {}
        values = tuple(options)
        if not values:
            raise SpaceError("a choice needs at least one option")
        if len({(type(v), v) for v in values}) < len(values):
            raise SpaceError(f"a choice names an option twice: {_listed(values)}")
        object.__setattr__(self, "options", values)
        object.__setattr__(self, "default", values[0] if default is None else default)
        object.__setattr__(self, "subspaces", dict(subspaces))
        _check_default(self)

    def contains(self, value: object) -> bool:
        return any(
            value == o and (type(value) is type(o) or _numbers(value, o)) for o in self.options
        )

    def encode(self, value: Value) -> float:
        return (self.options.index(value) + 0.5) / len(self.options)

    def decode(self, unit: float) -> Value:
        return self.options[min(int(unit * len(self.options)), len(self.options) - 1)]

    def to_json(self) -> dict[str, Any]:
        return {"choice": list(self.options), "default": self.default}


Range = Float | Int | Choice


def range_from_json(data: Mapping[str, Any]) -> Range:
    """The inverse of `to_json`; a Space keeps sub-spaces as conditions, outside of the range."""
    if "float" in data:
        low, high = data["float"]
        return Float(low, high, log=data["log"], default=data["default"])
    if "int" in data:
        low, high = data["int"]
        return Int(low, high, log=data["log"], default=data["default"])
    return Choice(data["choice"], default=data["default"])


def parse_value(text: str) -> Value:
    """A number, true, false, none, or the text itself.

    >>> parse_value("1e-3"), parse_value("64"), parse_value("gelu"), parse_value("true")
    (0.001, 64, 'gelu', True)
    """
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_range(text: str, *, default: Value = None) -> Range:
    """Read a range in its text form (see the top of this file).

    >>> parse_range("log 16..256 = 64")
    Int(low=16, high=256, log=True, default=64)
    >>> parse_range("relu|gelu").options
    ('relu', 'gelu')

    Raises:
        SpaceError: the text is no range, or the range cannot be.
    """
    text, equals, given = text.partition(" = ")
    if equals:
        default = parse_value(given)
    interval = _INTERVAL.match(text.strip())
    if interval:
        log = bool(interval[1] or interval[4])
        low, high = parse_value(interval[2]), parse_value(interval[3])
        if not (_is_number(low) and _is_number(high)):
            raise SpaceError(f"'{text}' is no range; write e.g. 1e-5..1e-3, log 16..256 or a|b|c")
        if isinstance(low, int) and isinstance(high, int):
            return Int(low, high, log=log, default=default)  # type: ignore[arg-type]
        return Float(float(low), float(high), log=log, default=default)  # type: ignore[arg-type]
    if ".." in text:
        raise SpaceError(f"'{text}' is no range; write e.g. 1e-5..1e-3, log 16..256 or a|b|c")
    if not text.strip():
        raise SpaceError("an empty range; write e.g. 1e-5..1e-3, log 16..256 or a|b|c")
    separator = "|" if "|" in text else ","
    values = [parse_value(part) for part in text.split(separator) if part.strip()]
    return Choice(values, default=default)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(a: object, b: object) -> bool:
    return _is_number(a) and _is_number(b)


def _listed(values: Sequence[Value]) -> str:
    return ", ".join(str(v) for v in values)


def _check_bounds(low: float, high: float, log: bool) -> None:
    if not (_is_number(low) and _is_number(high)):
        raise SpaceError(f"bounds {low} and {high} must be finite numbers")
    if low > high:
        raise SpaceError(f"low {low:g} is above high {high:g}")
    if log and low <= 0:
        raise SpaceError(f"a log scale needs low > 0, got {low:g}; use e.g. 1e-8, or no log")


def _check_default(range_: Range) -> None:
    if range_.contains(range_.default):
        return
    if isinstance(range_, Choice):
        inside = _listed(range_.options)
    else:
        inside = f"{range_.low:g}..{range_.high:g}"
        if isinstance(range_, Int) and isinstance(range_.default, float):
            inside += f": whole numbers; for others write {range_.low}.0..{range_.high}.0"
    raise SpaceError(f"default {range_.default} lies outside {inside}")
