"""`automl methods`: what a recipe can be made of."""

from __future__ import annotations

import math
from textwrap import shorten, wrap
from typing import Annotated

import typer

from automl.errors import MethodError
from automl.methods.options import OPTIONS
from automl.registry import FAMILIES, PARTS, Family, Method, nearest, year_of
from automl.reports.numerals import short
from automl.space.ranges import Choice
from automl.space.tree import describe

from .table import aligned

_EVERY = {**FAMILIES, **PARTS}
_DEFAULTS = {"passes": "1", "buffers": "-"}
_IN = " " * 6  # of what stands below a method


def _names(incomplete: str) -> list[str]:
    known = [*(n for f in _EVERY.values() for n in f.names()), *OPTIONS]
    return [n for n in known if n.startswith(incomplete)]


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A method to explain, such as lion.", autocompletion=_names
        ),
    ] = None,
) -> None:
    """List the methods, or explain one: idea, formula, ranges, cost, source."""
    if name is None:
        typer.echo("\n".join(_all()))
        return
    families = [f for f in _EVERY.values() if f.has(name)]
    if not families and name in OPTIONS:
        typer.echo("\n".join(_option(name)))
        return
    if not families:
        near = nearest(name, _names("")) or "; `automl methods` lists all"
        raise MethodError(f"no method named '{name}'{near}")
    blocks = ["\n".join(_explained(family, name)) for family in families]
    typer.echo("\n\n".join(blocks))


def _all() -> list[str]:
    lines = ["A recipe chooses one method at each stage of a training step:", ""]
    for family in FAMILIES.values():
        lines += [f"{family.key} ({family.folder}/)", *_table(family), ""]
    lines += ["Networks are made of parts, and proxies judge them before they are trained:", ""]
    for family in PARTS.values():
        lines += [f"{family.key} ({family.folder}/)", *_table(family), ""]
    return [*lines, "Explain one: automl methods NAME"]


def _table(family: Family) -> list[str]:
    """A line a method: year, cost where the family has one, idea; below it use and evidence."""
    facts = {name: family.facts(name) for name in family.names()}
    costs = [c for c in ("passes", "buffers") if any(c in f for f in facts.values())]
    if costs:
        costs = ["passes"] if family.key == "gradient" else ["passes", "buffers"]
    rows = [["  NAME", "YEAR", *(c.replace("buffers", "state").upper() for c in costs), "IDEA"]]
    for name, found in facts.items():
        year = found.get("year") or year_of(str(found.get("source", "")))
        cells = [f"{found[c]:g}" if c in found else _DEFAULTS[c] for c in costs]
        rows.append(
            [
                f"  {name}",
                str(year or ""),
                *cells,
                shorten(_idea(family.header(name)), 74, placeholder=" ..."),
            ]
        )
    head, *lines = aligned(rows, right=range(1, 2 + len(costs)))
    out = [head]
    for line, found in zip(lines, facts.values(), strict=True):
        out.append(line)
        for words, key in (("for", "when"), ("shown", "evidence")):
            if key in found:
                text = f"{words}: {found[key]}"
                out += wrap(text, 110, initial_indent=_IN, subsequent_indent=_IN)
    return out


def _idea(header: str) -> str:
    """The first sentence of a method's header, without its name."""
    first = header.split("\n\n")[0].replace("\n", " ")
    return first.partition(": ")[2] or first


def _option(name: str) -> list[str]:
    """Where a name lives that is no method of its own."""
    option = OPTIONS[name]
    lines = wrap(f"{name} is {option.words}", 100, break_long_words=False)
    for method in option.methods:
        family, _, own = method.partition(".")
        lines += ["", *_explained(FAMILIES[family], own)] if len(option.methods) == 1 else []
    if len(option.methods) > 1:
        lines += ["", *(f"    automl methods {m.partition('.')[2]}" for m in option.methods)]
    return lines


def _explained(family: Family, name: str) -> list[str]:
    from .quiet import quiet

    header = family.header(name)
    with quiet():
        method = family.get(name)  # torch is imported here: ranges stand in the method's own file
    lines = [f"{name}, {_article(family.key)}", "", header, ""]
    if method.ranges:
        rows = [["HYPERPARAMETER", "RANGE", "DEFAULT"]]
        for hyper, range_ in method.ranges.items():
            text = describe(range_)
            if isinstance(range_, Choice):
                text = text.replace("|", " | ")
            rows.append([f"{family.key}.{name}.{hyper}", text, short(range_.default)])
        lines += [*aligned(rows), ""]
    if method.when:
        lines.append(f"use     {method.when}")
    if method.evidence:
        lines += wrap(
            f"shown   {method.evidence}", 100, subsequent_indent=" " * 8, break_long_words=False
        )
    else:
        lines.append("shown   none known")
    lines += [f"cost    {cost}" for cost in _costs(method)]
    if method.pins:
        lines.append(f"pins    {', '.join(method.pins)}: it takes that stage over")
    lines.append(f"source  {method.source}")
    if "Source:" in header:
        lines.pop()
    return lines


def _costs(method: Method) -> list[str]:
    words = []
    buffers = getattr(method, "buffers", None)
    if buffers is not None and not math.isnan(buffers):  # an adapted class's own affair
        words.append(f"{_number(buffers, 'number')} of state a weight")
    passes = getattr(method, "passes", None)
    if passes is not None:
        words.append(f"{_number(passes, 'forward-backward pass')} a step")
    return ["; ".join(words)] if words else []


def _number(n: float, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"1 {noun}" if n == 1 else f"{short(float(n))} {plural}"


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
