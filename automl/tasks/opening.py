"""Opens a task from what the user typed; each kind has a file of its own."""

from __future__ import annotations

from automl.errors import TaskError
from automl.records import TaskSpec
from automl.tasks.digits import open_digits
from automl.tasks.task import Task


def open_task(spec: TaskSpec) -> Task:
    """Open the task that `spec` names.

    Raises:
        TaskError: one line on what is wrong with the file, the data or the options.
    """
    if spec.source == "digits":
        return open_digits(spec)
    raise TaskError(f"no task named '{spec.source}'; built in: digits; or give a file")
