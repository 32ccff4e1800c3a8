"""Opens a task from what the user typed; each kind has a file of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from automl.buckets import is_url
from automl.errors import TaskError
from automl.fetching import fetched
from automl.records import TaskSpec
from automl.registry import nearest
from automl.tasks.task import Task

_BUILT_IN = ("digits",)
_KINDS = "a table (.csv, .tsv, .parquet), a folder of images, a text (.txt) or a task file (.py)"


def open_task(spec: TaskSpec) -> Task:
    """Open the task that `spec` names; reads its data and tries its model once.

    Raises:
        TaskError: one line on what is wrong with the file, the data or the options.
        SpaceError: one line on what is wrong with the space or a --set.
    """
    if spec.epochs is not None and spec.epochs <= 0:
        raise TaskError(f"--epochs {spec.epochs:g}: a full training has more than none")
    # Imported by kind: pandas, Pillow and scikit-learn cost a second each.
    if spec.command:
        from automl.tasks.script import open_command

        return open_command(spec)
    if is_url(spec.source):
        spec = replace(spec, source=str(fetched(spec.source)))
    path = Path(spec.source)
    if spec.source == "digits" and not path.exists():
        from automl.tasks.digits import open_digits

        return open_digits(spec)
    if not path.exists():
        where = nearest(spec.source, _BUILT_IN) or f"; built in: digits; or give {_KINDS}"
        raise TaskError(f"no file or task named '{spec.source}'{where}")
    if path.is_dir():
        from automl.tasks.images import open_images

        return open_images(spec)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".tab", ".parquet", ".pq"):
        from automl.tasks.table import open_table

        return open_table(spec)
    if suffix == ".py":
        from automl.tasks.user_file import open_user_file

        return open_user_file(spec)
    if suffix in (".txt", ".text", ".md"):
        from automl.tasks.text import open_text

        return open_text(spec)
    found = f"'{path.suffix}'" if suffix else "a file without a suffix"
    raise TaskError(f"{spec.source}: do not know how to read {found}; give {_KINDS}")
