"""`automl driver`: the service that runs detached studies."""

from __future__ import annotations

from pathlib import Path

import typer

from .options import JournalUrl, Runs, Server

app = typer.Typer(
    help="Run studies that were detached.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def _group() -> None:
    """Run studies that were detached."""


@app.command()
def start(runs: Runs = Path("runs"), journal: JournalUrl = None, broker: Server = None) -> None:
    """Run the studies that were detached, until Ctrl-C or SIGTERM.

    `automl tune --detach` leaves them. Each is a process of its own. They end with the service,
    which takes them up when it starts again; the service is made for systemd or a container.
    """
    import os

    from automl.executors.broker import broker_url
    from automl.service import serve

    from .quiet import quiet
    from .stopping import Stopping

    url = broker_url(broker)
    if url is not None:
        os.environ["AUTOML_BROKER"] = url  # its processes read it there, where `ps` does not show
    with quiet(), Stopping(lambda note: None) as stopping:
        stopping.run()
        typer.echo(f"driver service of {runs}; Ctrl-C ends it")
        serve(runs, journal=journal, say=typer.echo, stop=stopping.asked)
