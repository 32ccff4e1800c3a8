"""Options that several commands share, and what the shell completes them with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def study_names(incomplete: str) -> list[str]:
    root = Path(os.environ.get("AUTOML_RUNS", "runs"))
    names = sorted(p.parent.name for p in root.glob("*/journal.db"))
    return [n for n in names if n.startswith(incomplete)]


def space_names(incomplete: str) -> list[str]:
    from automl.space.files import shipped  # reads the spaces: only when the shell asks

    return [n for n in shipped() if n.startswith(incomplete)]


def strategy_names(incomplete: str) -> list[str]:
    from automl.search.strategy import strategies  # as above

    return [n for n in strategies() if n.startswith(incomplete)]


Runs = Annotated[
    Path,
    typer.Option(
        "--runs",
        metavar="FOLDER",
        envvar="AUTOML_RUNS",
        show_envvar=True,
        show_default=True,
        help="Where studies are kept.",
    ),
]
JournalUrl = Annotated[
    str | None,
    typer.Option(
        "--journal",
        metavar="URL",
        help="Database that records the study: postgresql://...  "
        "[default: a file in the study's folder]",
    ),
]
MlflowStore = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        help="Where MLflow keeps its copy of the trials, or off.  [default: mlflow.db in --runs]",
    ),
]
Broker = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL|@FILE",
        help="Train in the workers of this Redis server: redis://HOST:6379/0.  "
        "[default: AUTOML_BROKER, or else this machine's own processes]",
    ),
]
QueueName = Annotated[
    str,
    typer.Option(
        "--queue",
        metavar="NAMES",
        help="Queue of those workers, or several: gpu,cpu.",
        show_default=True,
    ),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Leave it to the driver service, which is started if need be."),
]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        "--checkpoints",
        metavar="PLACE",
        help="Where checkpoints and code lie, for driver and workers: a shared folder, or a URL "
        "(s3://bucket/studies).  [default: the study's folder]",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print events as JSON lines, and nothing else.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the verdict only.")]
StudyName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the study.", autocompletion=study_names)
]
