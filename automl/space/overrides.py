"""`--set`: fix, narrow or list one hyperparameter without rewriting the space."""

from __future__ import annotations

from automl.errors import SpaceError
from automl.registry import nearest
from automl.space.ranges import Choice, Float, Int, Range, Value, parse_range
from automl.space.tree import Space, describe


def narrowed(space: Space, name: str, text: str) -> Space:
    """`space` with `name` restricted to `text`, a range in its text form.

    An interval keeps the scale of the range it replaces unless it names its own. Numbers may go
    beyond the shipped bounds and values; a choice of words may only drop options. The old default
    stays if it still lies inside; else the nearest value, or the first listed, becomes the default.

    Raises:
        SpaceError: unknown name, unknown option, or a text that does not fit the range's kind.
    """
    old = space[name].range
    wanted = parse_range(text)
    stated = " = " in text
    new = (
        _listed(old, wanted, stated)
        if isinstance(wanted, Choice)
        else _interval(old, wanted, text, stated)
    )
    return space.replace(name, new)


def _listed(old: Range, wanted: Choice, stated: bool) -> Range:
    """A choice of `wanted`, or for one value of a number a range that holds nothing else."""
    options: list[Value] = []
    for value in wanted.options:
        if isinstance(old, Choice):
            options.append(_option(old, value))
        elif isinstance(value, bool | str) or value is None:
            raise SpaceError(f"'{value}' is no number; the range is {describe(old)}")
        elif isinstance(old, Int) and value != int(value):
            raise SpaceError(f"{value} is no whole number; the range is {describe(old)}")
        else:
            options.append(int(value) if isinstance(old, Int) else float(value))
    default = wanted.default if stated else old.default
    kept = Choice(options)
    return Choice(options, default=default) if kept.contains(default) else kept


def _option(old: Choice, value: Value) -> Value:
    for option in old.options:  # "none", "1" and "true" are read as values; options may be text
        if value == option or str(value).lower() == str(option).lower():
            return option
    if _number(value) and all(_number(o) for o in old.options):
        if isinstance(value, float) and all(isinstance(o, int) for o in old.options):
            raise SpaceError(f"{value} is no whole number; options: {describe(old)}")
        return value
    if old.options == ("auto",):  # stands for a name that only the task knows
        return str(value)
    words = [str(o) for o in old.options]
    raise SpaceError(f"no option '{value}'{nearest(str(value), words)}; options: {describe(old)}")


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _interval(old: Range, wanted: Float | Int, text: str, stated: bool) -> Range:
    if isinstance(old, Choice):
        inside = [
            o for o in old.options if isinstance(o, int | float) and wanted.low <= o <= wanted.high
        ]
        if not inside:
            raise SpaceError(f"'{text}' holds none of the options {describe(old)}")
        return Choice(inside, default=old.default if old.default in inside else inside[0])
    # A narrowed range keeps its scale; written out, "log" sets it.
    log = wanted.log or (old.log and wanted.low > 0)
    default = wanted.default if stated else old.default
    assert default is not None
    clipped = min(max(default, wanted.low), wanted.high)
    if isinstance(old, Int) and isinstance(wanted, Int):
        return Int(wanted.low, wanted.high, log=log, default=int(clipped))
    if isinstance(old, Int):
        raise SpaceError(
            f"'{text}' has bounds that are no whole numbers; the range is {describe(old)}"
        )
    return Float(float(wanted.low), float(wanted.high), log=log, default=float(clipped))
