"""Whether a study that goes on is still the one that was begun."""

from __future__ import annotations

from automl.errors import StudyError
from automl.study.options import StudyOptions, options_of
from automl.study.state import StudyConfig


def check_same(old: StudyConfig, new: StudyConfig) -> None:
    """Refuse to continue a study with other settings.

    Raises:
        StudyError: naming the first setting that differs.
    """
    for one, known in options_of(StudyOptions):
        a, b = getattr(old, one.name), getattr(new, one.name)
        if known.fixed and a != b:
            raise StudyError(
                f"a study named '{old.name}' exists with {one.name} {_short(a)}, not {_short(b)}; "
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


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(str(v) for v in value) or "nothing"
    return str(value)
