"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .completing import study_names
from .stated import spelled

Runs = Annotated[Path, spelled("runs")]
JournalUrl = Annotated[str | None, spelled("journal")]
MlflowStore = Annotated[str | None, spelled("mlflow")]
Broker = Annotated[str | None, spelled("broker")]
Server = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL|@FILE",
        help="The Redis server: redis://HOST:6379/0.  [default: AUTOML_BROKER]",
    ),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Leave it to the driver service, which is started if need be."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print events as JSON lines, and nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the verdict only.")]
StudyName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the study.", autocompletion=study_names)
]
