"""A sampler around another: whatever the inner one can do besides suggesting, it still can.

Contracts that a sampler may keep or not (`Alike`, `Sated`, `ManyLosses`) are asked of the innermost
one, by `innermost`; a wrapper has all of their methods and passes the calls on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from automl.search.paired import Alike, Sampler, Sated, Suggestion
from automl.space.tree import Point


@runtime_checkable
class ManyLosses(Protocol):
    """A sampler that takes several losses as they are."""

    def observe_losses(self, trial: int, losses: Sequence[float], violation: float) -> None:
        """Losses of `trial` where it stands; all infinite, like the violation, if it failed."""


class Wrapping:
    """Passes everything on. Of several losses a wrapper itself notes the first."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def suggest(self, trial: int) -> Suggestion:
        return self._next(trial, None)

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        return self._next(trial, fixed)

    def adopt(self, trial: int, point: Point) -> None:
        self.sampler.adopt(trial, point)

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        self._note(trial, loss, curve)
        self.sampler.observe(trial, loss, curve)

    def observe_losses(self, trial: int, losses: Sequence[float], violation: float) -> None:
        self._note(trial, losses[0], None)
        assert isinstance(self.sampler, ManyLosses)
        self.sampler.observe_losses(trial, losses, violation)

    def sated(self) -> bool:
        return isinstance(self.sampler, Sated) and self.sampler.sated()

    def _next(self, trial: int, fixed: Point | None) -> Suggestion:
        """The inner sampler's choice, with these names fixed where it can see to that."""
        if fixed is not None and isinstance(self.sampler, Alike):
            return self.sampler.suggest_like(trial, fixed)
        return self.sampler.suggest(trial)

    def _note(self, trial: int, loss: float, curve: Mapping[float, float] | None) -> None:
        """What the wrapper keeps of a result."""


def innermost(sampler: Sampler) -> Sampler:
    """The sampler that all wrappers are around."""
    while isinstance(sampler, Wrapping):
        sampler = sampler.sampler
    return sampler
