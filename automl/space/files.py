"""Space files: which methods take part in a search, and in which ranges.

    about = "Small image classifiers."

    [space]
    optimizer = ["adamw", "sgd", "muon"]        # methods of a family; the first is the default
    batch = ["none", "flip_crop", "flip_crop+mixup"]
    batch_size = "32|64|128 = 64"               # any other name: a range in its text form
    "optimizer.sgd.lr" = "log 1e-3..1"          # narrows, or widens, what the method's file says

A method brings its own hyperparameters, open only while it is chosen. The same lines can be
given on the command line: `--set optimizer=adamw,lion --set optimizer.lion.lr=1e-5..1e-3`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from automl.errors import AutomlError, SpaceError
from automl.registry import FAMILIES, Family, nearest
from automl.space.overrides import narrowed
from automl.space.ranges import Choice, Range, parse_range
from automl.space.tree import Condition, Dimension, Space


def shipped() -> dict[str, str]:
    """Names of the shipped spaces, each with the sentence that says who it is for."""
    files = resources.files("automl.search_spaces").iterdir()
    found = {
        f.name[:-5]: tomllib.loads(f.read_text("utf-8")) for f in files if f.name.endswith(".toml")
    }
    return {name: str(found[name].get("about", "")) for name in sorted(found)}


# What a recipe may say beside its methods, though a space leaves it to the task.
_TRAINERS = ("batch_size", "accumulate", "precision", "patience")


def load_space(
    source: str | Path, *, sets: Sequence[str] = (), extra: Mapping[str, Range] | None = None
) -> Space:
    """Read a space by shipped name or path, and apply `sets` ("name=text") from left to right.

    `extra` are further ranges by their full name, such as "model.width" of a user's model.

    Raises:
        SpaceError: naming the file, the entry, what was found and what would be right.
    """
    entries, place = _read(source)
    return compose(entries, place=place, sets=sets, extra=extra or {})


def compose(
    entries: Mapping[str, Any],
    *,
    place: str = "space",
    sets: Sequence[str] = (),
    extra: Mapping[str, Range] | None = None,
) -> Space:
    """The space of the [space] table `entries`; see `load_space`."""
    orders = [_split(text) for text in sets]
    stages = {key: _names(value) for key, value in entries.items() if key in FAMILIES}
    plain = {key: value for key, value in entries.items() if key not in FAMILIES}
    for key, text in orders:
        if key in FAMILIES:  # may name any method of the family, not only those of the file
            stages[key] = _names(text)
    dimensions: list[Dimension] = []
    for key, names in stages.items():
        try:
            dimensions += _stage(FAMILIES[key], names)
        except AutomlError as error:
            raise SpaceError(f"{place}, {key}: {error}") from None
    dimensions = _pinned(dimensions, stages)
    for name, range_ in (extra or {}).items():
        dimensions.append(Dimension(name, range_))
    known = {d.name for d in dimensions}
    for name, text in plain.items():
        if name not in known and "." not in name:
            dimensions.append(Dimension(name, _range(text, f"{place}, {name}")))
    for name, text in orders:
        if name in _TRAINERS and name not in {*known, *plain} and "optimizer" in stages:
            dimensions.append(Dimension(name, _range(text, f"--set {name}")))
    space = Space(dimensions)
    for name, text in plain.items():
        if "." in name and (name in space or not _absent_method(name, stages)):
            space = _apply(space, name, text, f"{place}, {name}")
    for name, text in orders:
        if name not in FAMILIES:
            space = _apply(space, name, text, f"--set {name}")
    return space


def _apply(space: Space, name: str, text: Any, place: str) -> Space:
    try:
        return narrowed(space, name, text if isinstance(text, str) else _text(text))
    except SpaceError as error:
        raise SpaceError(f"{place}: {error}") from None


def _stage(family: Family, names: Sequence[str]) -> list[Dimension]:
    """The stage's own choice, then each method's ranges, open while a chosen chain holds it."""
    chains = {name: name.split("+") for name in names}
    for name, chain in chains.items():
        if len(chain) > 1 and not family.chained:
            raise SpaceError(f"'{name}' chains methods, but only one {family.key} can be chosen")
    out = [Dimension(family.key, Choice(list(names)))]
    for method in dict.fromkeys(m for chain in chains.values() for m in chain):
        users = tuple(name for name, chain in chains.items() if method in chain)
        for hyper, range_ in family.get(method).ranges.items():
            name = f"{family.key}.{method}.{hyper}"
            out.append(Dimension(name, range_, ((family.key, users),)))
    return out


def _pinned(dimensions: list[Dimension], stages: Mapping[str, Sequence[str]]) -> list[Dimension]:
    """Close the stages that a chosen method pins (schedule-free optimizers pin the schedule)."""
    conditions: dict[str, list[Condition]] = {}
    for key, names in stages.items():
        for pinned in FAMILIES:
            free = tuple(
                n
                for n in names
                if not any(pinned in FAMILIES[key].get(m).pins for m in n.split("+"))
            )
            if len(free) < len(names):
                conditions.setdefault(pinned, []).append((key, free))
    # A pinned stage must stand after the stages that pin it.
    late = [d for d in dimensions if _root(d.name) in conditions]
    early = [d for d in dimensions if _root(d.name) not in conditions]
    closed = [
        Dimension(d.name, d.range, (*conditions[_root(d.name)], *d.when))
        for d in late
        if all(values for _, values in conditions[_root(d.name)])
    ]
    return early + closed


def _absent_method(name: str, stages: Mapping[str, Sequence[str]]) -> bool:
    """Whether `name` narrows a method that a --set took out of the space."""
    parts = name.split(".")
    return (
        len(parts) == 3
        and parts[0] in FAMILIES
        and parts[1] in FAMILIES[parts[0]].names()
        and not any(parts[1] in n.split("+") for n in stages.get(parts[0], ()))
    )


def _read(source: str | Path) -> tuple[Mapping[str, Any], str]:
    path = Path(source)
    if path.suffix == ".toml" or path.is_file():
        place = path.name
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SpaceError(
                f"{source}: {error.strerror}; give a space file, or one of: {_all()}"
            ) from None
    elif str(source) in shipped():
        place = str(source)
        text = (resources.files("automl.search_spaces") / f"{source}.toml").read_text("utf-8")
    else:
        raise SpaceError(
            f"no space named '{source}'{nearest(str(source), shipped())}; shipped: {_all()}"
        )
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpaceError(f"{place}: not TOML: {error}") from None
    entries = data.get("space")
    if not isinstance(entries, dict) or not entries:
        raise SpaceError(f"{place}: no [space] table; see `automl space show quick` for one")
    return entries, place


def _all() -> str:
    return ", ".join(shipped())


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.replace("|", ",").split(",") if part.strip()]
    return [str(part) for part in value]


def _text(value: Any) -> str:
    return "|".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _range(value: Any, place: str) -> Range:
    try:
        return parse_range(_text(value))
    except SpaceError as error:
        raise SpaceError(f"{place}: {error}") from None


def _root(name: str) -> str:
    return name.split(".", 1)[0]


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise SpaceError(f"--set {text}: write NAME=VALUE, NAME=LOW..HIGH or NAME=A,B")
    return name.strip(), value.strip()


def names_of(sets: Iterable[str]) -> list[str]:
    """The names that `--set` entries speak of."""
    return [_split(text)[0] for text in sets]
