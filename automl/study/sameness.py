"""Whether a study that goes on is still the one that was begun."""

from __future__ import annotations

from typing import Any

from automl.errors import StudyError
from automl.records import TaskSpec
from automl.study.state import StudyConfig


def check_same(old: StudyConfig, new: StudyConfig) -> None:
    """Refuse to continue a study with other settings.

    Raises:
        StudyError: naming the first setting that differs.
    """
    fields = (
        "spec",
        "strategy",
        "budget",
        "seed",
        "seeds",
        "pack",
        "spend_all",
        "warm_start",
        "prior",
        "prescreen",
    )
    for field in fields:
        a, b = getattr(old, field), getattr(new, field)
        if field == "spec" and a != b:
            field, a, b = _first_difference(a, b)
        if a != b:
            raise StudyError(
                f"a study named '{old.name}' exists with {field} {_short(a)}, not {_short(b)}; "
                f"choose another --name, or remove it with `automl rm {old.name}`"
            )
    if new.place and new.place != old.place:
        there = old.place.rpartition("/")[0] or "its own folder"
        raise StudyError(
            f"a study named '{old.name}' has its checkpoints in {there}; leave out --checkpoints, "
            "or choose another --name"
        )
    for field, what in (("code_fingerprint", "code"), ("data_fingerprint", "data")):
        if getattr(old.card, field) != getattr(new.card, field):
            raise StudyError(
                f"the task's {what} changed since study '{old.name}' began; its trials would no "
                f"longer compare: choose another --name"
            )


def _first_difference(a: TaskSpec, b: TaskSpec) -> tuple[str, Any, Any]:
    old, new = a.to_json(), b.to_json()
    return next((n, old[n], new[n]) for n in old if old[n] != new[n])


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(v) for v in value) or "nothing"
    return str(value)
