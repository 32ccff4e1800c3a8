"""`automl worker`: the machines that train what a queue holds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from automl.errors import ExecutorError

from .options import Server
from .table import aligned

_TAIL = 20  # lines of a log
_NONE = "no broker: set AUTOML_BROKER, or give --broker redis://HOST:6379/0"

app = typer.Typer(
    help="Start, list and drain workers of a queue.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
Logs = Annotated[
    Path, typer.Option("--logs", metavar="FOLDER", help="Where they log.", show_default=True)
]


@app.command()
def start(
    broker: Server = None,
    queue: Annotated[
        str,
        typer.Option(
            metavar="NAMES", help="Queue to take work from, or several: gpu,cpu.", show_default=True
        ),
    ] = "cpu",
    devices: Annotated[
        str, typer.Option(metavar="LIST", help="cpu, or GPUs: 0,1.", show_default=True)
    ] = "cpu",
    slots: Annotated[
        int, typer.Option(min=1, metavar="N", help="Workers a device.", show_default=True)
    ] = 1,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="This machine's own address of what the driver knows as --checkpoints, or as "
            "--runs.  [default: the driver's]",
        ),
    ] = None,
    runner_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="A training process that holds more after a segment is replaced: 8g.  "
            "[default: half of the machine's memory, over its workers]",
        ),
    ] = None,
    logs: Logs = Path("logs"),
) -> None:
    """Run workers on this machine until Ctrl-C.

    Then they save what they train, hand it over and end.
    """
    from automl.executors.broker import redacted
    from automl.executors.launching import devices_of, keep_running
    from automl.executors.needs import memory_bytes
    from automl.objects import checked_place
    from automl.signing import shared_key

    url, pinned = _url(broker), devices_of(devices)
    if checkpoints is not None:
        os.environ["AUTOML_CHECKPOINTS"] = checked_place(checkpoints, "--checkpoints")
    most = None if runner_memory is None else memory_bytes(runner_memory, "--runner-memory")
    shared_key()  # one that cannot be read is told now
    _living(url)  # no server: one line now, not a log full of them
    typer.echo(f"workers of {redacted(url)}; Ctrl-C ends them")
    keep_running(
        url, queue=queue, devices=pinned, slots=slots, logs=logs, say=typer.echo, runner_memory=most
    )


@app.command("ls")
def list_workers(broker: Server = None) -> None:
    """List the workers that live."""
    workers = _living(_url(broker))
    if not workers:
        typer.echo("no workers; start some with: automl worker start")
        return
    from .crew import size

    rows = [
        ["NAME", "HOST", "QUEUE", "DEVICE", "MEMORY", "USED", "TRAINS", "DONE", "FAILED", "SEEN"]
    ]
    for name, w in workers.items():
        short, _, host = name.partition("@")
        seen = f"{max(time.time() - float(w.get('beat', 0)), 0):.0f} s ago"
        rows.append([
            short, host, w.get("queue", ""), w.get("device", ""), size(int(w.get("memory") or 0)),
            size(int(w.get("resident") or 0)), w.get("doing") or "idle", w.get("done", "0"),
            w.get("failed", "0"), seen,
        ])  # fmt: skip
    typer.echo("\n".join(aligned(rows, right=(4, 5, 7, 8, 9))))


@app.command()
def drain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="cpu-0, or cpu-0@host.")],
    broker: Server = None,
) -> None:
    """Let a worker finish what it trains, and leave."""
    from automl.executors.celery import drain as ask

    url = _url(broker)
    there = list(_living(url))
    named = [n for n in there if name in (n, n.partition("@")[0])]
    if not named:
        raise ExecutorError(f"no worker named '{name}'; there are: {', '.join(there) or 'none'}")
    if len(named) > 1:
        raise ExecutorError(f"'{name}' is on several hosts; give one of: {', '.join(named)}")
    ask(url, named)
    typer.echo(f"{named[0]} finishes what it trains and leaves")


@app.command("logs")
def show_logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="cpu-0, or cpu-0@host.")],
    logs: Logs = Path("logs"),
) -> None:
    """Print the last lines that a worker of this machine logged."""
    files = sorted(logs.glob(f"{name.partition('@')[0]}*.log"))
    if not files:
        raise ExecutorError(f"no log of '{name}' in {logs}")
    for file in files:
        typer.echo(f"{file}:")
        for line in file.read_text(errors="replace").splitlines()[-_TAIL:]:
            typer.echo(f"  {line}")


def _url(broker: str | None) -> str:
    from automl.executors.broker import broker_url

    url = broker_url(broker)
    if url is None:
        raise ExecutorError(_NONE)
    return url


def _living(url: str) -> dict[str, dict[str, str]]:
    from automl.executors.celery import living  # celery: not for --help

    return living(url)
