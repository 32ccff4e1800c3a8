"""`automl strategies`: the ways to search, and when to use which."""

from __future__ import annotations

from textwrap import wrap

import typer

from automl.search.catalogue import CATALOGUE

_IN = " " * 6  # of what stands below a name


def strategies() -> None:
    """List the strategies of a search, with when to use which."""
    lines = ["How a study searches: automl tune TASK --strategy NAME", ""]
    for name, entry in CATALOGUE.items():
        shown = name
        if entry.options:
            shown = f"{name}[:{'|'.join(entry.options)}]"
        elif entry.free:
            shown = f"{name}[:NAME]"
        lines += wrap(f"  {shown}: {entry.about}", 98, subsequent_indent=_IN)
        lines += wrap(entry.when, 98, initial_indent=f"{_IN}for: ", subsequent_indent=_IN)
    typer.echo("\n".join(lines))
