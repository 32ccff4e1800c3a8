"""`automl attach`: the screen of a study that another process runs, read from its files."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from automl.errors import StudyError

from .options import AsJson, JournalUrl, Quiet, Runs, StudyName

if TYPE_CHECKING:
    from .showing import Show

_LOOK_SECONDS = 0.25


def attach(
    name: StudyName,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show the screen of a study that runs.

    Ctrl-C leaves the screen, not the study. Ends like `automl tune`, with the verdict.
    """
    from .driving import finish
    from .quiet import quiet as silence
    from .showing import choose

    with silence():
        show = choose(as_json=as_json, quiet=quiet)
        try:
            _follow(name, runs, journal, show)
        except KeyboardInterrupt:
            typer.echo(f"{name} goes on; see it again: automl attach {name}")
            raise typer.Exit from None
        raise typer.Exit(finish(name, runs, journal, show))


def _follow(name: str, runs: Path, journal: str | None, show: Show) -> None:
    """Feed the screen until the study has ended and its driver has written all files.

    Raises:
        StudyError: nobody runs it.
    """
    from automl.service import handed_over, serving
    from automl.study.journal import Journal, writer
    from automl.study.live import Following
    from automl.study.preparing import saved_state
    from automl.study.state import replay

    url = journal or str(runs / name / "journal.db")
    known = saved_state(name, runs=runs, journal=journal)  # or one line that there is none

    def running() -> bool:
        return bool(writer(url, name)) or (name in handed_over(runs) and bool(serving(runs)))

    if not running() and not known.ended:
        raise StudyError(f"study '{name}' does not run; go on with: automl resume {name}")
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(Journal(url, name))
        show.open()
        stack.callback(show.close)
        events = reader.events()
        show.load(replay(event for _, event in events))
        last, live = events[-1][0], Following(runs / name)
        while running():
            for seq, event in reader.events(last):
                last = seq
                show.update(event)
            for event in live.news():
                show.update(event)
            time.sleep(_LOOK_SECONDS)
