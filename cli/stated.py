"""Options of the command line, made of the fields that state them (`automl.study.options`)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from automl.study.options import TuneOptions, flag_of, options_of

from .completing import space_names, strategy_names, study_names

_COMPLETED = {"space": space_names, "strategy": strategy_names, "warm_start": study_names}
_FIELDS = {one.name: (one, known) for one, known in options_of(TuneOptions)}


def spelled(name: str) -> Any:
    """The option of this name, as Typer takes it after a type."""
    one, known = _FIELDS[name]
    if not one.kw_only:
        return typer.Argument(metavar=known.metavar, help=known.help, show_default=False)
    told = f"  [default: {' '.join(one.default)}]" if isinstance(one.default, tuple) else ""
    return typer.Option(
        flag_of(one),
        metavar=known.metavar or None,
        help=known.help + (told if one.default else ""),
        min=known.least,
        envvar=known.variable or None,
        autocompletion=_COMPLETED.get(name),
    )


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first argument, TuneOptions, is made of what was typed.

    Its own signature, from which Typer makes the command line, is that of the options, and then
    the rest of its arguments.
    """

    @functools.wraps(command)
    def typed(**given: Any) -> None:
        told = {n: given.pop(n) for n in _FIELDS}
        command(TuneOptions(**{n: v for n, v in told.items() if v is not None}), **given)

    rest = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    typed.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*(_parameter(name) for name in _FIELDS), *(p.replace(kind=_NAMED) for p in rest)]
    )
    typed.__annotations__ = {}
    return typed


_NAMED = inspect.Parameter.KEYWORD_ONLY
_KINDS = {"str": str, "str | Path": str, "int": int, "float": float, "bool": bool}


def _parameter(name: str) -> inspect.Parameter:
    one, _ = _FIELDS[name]
    default: Any = one.default
    kind: Any = _KINDS.get(str(one.type).removesuffix(" | None"))
    if isinstance(default, Path):
        kind = Path
    elif isinstance(default, tuple):
        kind, default = list[str], None
    spelt: Any = Annotated[kind if default is not None else kind | None, spelled(name)]
    return inspect.Parameter(name, _NAMED, default=default, annotation=spelt)
