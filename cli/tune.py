"""`automl tune` and `automl resume`: run a search."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from automl.study.options import TuneOptions, checked

from .options import (
    AsJson,
    Broker,
    Detach,
    JournalUrl,
    MlflowStore,
    Quiet,
    Runs,
    StudyName,
)
from .stated import takes_options


@takes_options
def tune(
    options: TuneOptions,
    detach: Detach = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try the baseline for a few steps, print the plan, and stop."
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search for the best way to train a network.

    Ends with a verdict: whether the best recipe found beats the task's default one, the baseline,
    on fresh seeds. Exit code: 0 it does, 3 it does not, 1 the search failed or was interrupted
    (`automl resume NAME` goes on), 2 wrong usage.
    """
    options = checked(options)
    from automl.study.preparing import prepare

    from .detaching import leave
    from .driving import drive
    from .quiet import quiet as silence
    from .showing import choose

    with silence():
        if dry_run:
            from .plan import show_plan

            show_plan(options)
            return
        run = partial(leave, journal=options.journal, broker=options.broker) if detach else drive
        run(
            lambda listen: prepare(options, listen=listen),
            choose(as_json=as_json, quiet=quiet, plain=detach),
            again=_again(Path(options.runs), options.journal),
        )


def resume(
    name: StudyName,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Trials that train at the same time.  [default: as before]"
        ),
    ] = None,
    runs: Runs = Path("runs"),
    journal: JournalUrl = None,
    mlflow: MlflowStore = None,
    broker: Broker = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--queue", metavar="NAMES", help="Queues of those workers.  [default: as before]"
        ),
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a study that was interrupted.

    It goes on to the budget that it was started with; the same `automl tune` command does the same.
    One that was paused and runs elsewhere goes on there.
    """
    from .asking import go_on

    if go_on(name, runs, journal):
        return
    from automl.executors.broker import broker_url
    from automl.study.preparing import resume as take_up

    from .detaching import leave
    from .driving import drive
    from .quiet import quiet as silence
    from .showing import choose

    url = broker_url(broker)
    with silence():
        run = partial(leave, journal=journal, broker=url) if detach else drive
        run(
            lambda listen: take_up(
                name,
                runs=runs,
                journal=journal,
                workers=workers,
                mlflow=mlflow,
                broker=url,
                queue=queue,
                listen=listen,
            ),
            choose(as_json=as_json, quiet=quiet, plain=detach),
            again=_again(runs, journal),
        )


def _again(runs: Path, journal: str | None) -> str:
    """Options that find the study again, if it does not lie in the default place."""
    place = "" if runs == Path("runs") else f" --runs {runs}"
    return place + (f" --journal {journal}" if journal else "")
