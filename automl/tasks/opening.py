"""Opens a task from what the user typed; each kind has a file of its own."""

from __future__ import annotations

from pathlib import Path

from automl.errors import TaskError
from automl.records import TaskSpec
from automl.registry import nearest
from automl.tasks.task import Task

_TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq")


def open_task(spec: TaskSpec) -> Task:
    """Open the task that `spec` names.

    Raises:
        TaskError: one line on what is wrong with the file, the data or the options.
        SpaceError: the space, or a --set, does not fit it.
    """
    # Each kind is imported when it is opened: pandas and scikit-learn cost up to a second each.
    if spec.source == "digits":
        from automl.tasks.digits import open_digits

        return open_digits(spec)
    path = Path(spec.source)
    suffix = path.suffix.lower()
    if not path.exists():
        if suffix or "/" in spec.source:
            raise TaskError(
                f"no file {spec.source}; give a table, a folder of images, a .txt, a .py"
            )
        raise TaskError(
            f"no task named '{spec.source}'{nearest(spec.source, ['digits'])}; "
            "built in: digits; or give a file or a folder"
        )
    if suffix in _TABLES:
        from automl.tasks.table import open_table

        return open_table(spec)
    raise TaskError(
        f"{spec.source}: no task is made of a {suffix or 'file without suffix'}; "
        "give a .csv, .tsv, .parquet, .txt, .py or a folder of images"
    )
