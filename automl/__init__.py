"""Finds how a neural network should be trained, and says whether the answer is really better.

    import automl

    state = automl.tune("digits", budget="20full")
    print("\\n".join(automl.verdict_lines(state)))

Names load when they are first used: `import automl` alone costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl.errors import AutomlError
    from automl.recipe import Recipe
    from automl.records import Segment, TaskSpec
    from automl.reports.tables import verdict_lines, winner_recipe
    from automl.search.strategy import Failure, default_fidelity, make_strategy, strategies
    from automl.space.files import load_space
    from automl.space.ranges import Choice, Float, Int
    from automl.space.tree import Space
    from automl.study.preparing import saved_state
    from automl.study.state import State
    from automl.tuning import resume, tune

__all__ = [
    "AutomlError",
    "Choice",
    "Failure",
    "Float",
    "Int",
    "Recipe",
    "Segment",
    "Space",
    "State",
    "TaskSpec",
    "default_fidelity",
    "load_space",
    "make_strategy",
    "resume",
    "saved_state",
    "strategies",
    "tune",
    "verdict_lines",
    "winner_recipe",
]

_PLACES = {
    "automl.errors": ("AutomlError",),
    "automl.recipe": ("Recipe",),
    "automl.records": ("Segment", "TaskSpec"),
    "automl.reports.tables": ("verdict_lines", "winner_recipe"),
    "automl.search.strategy": ("Failure", "default_fidelity", "make_strategy", "strategies"),
    "automl.space.files": ("load_space",),
    "automl.space.ranges": ("Choice", "Float", "Int"),
    "automl.space.tree": ("Space",),
    "automl.study.preparing": ("saved_state",),
    "automl.study.state": ("State",),
    "automl.tuning": ("resume", "tune"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'automl' has no attribute '{name}'")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # found without us from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
