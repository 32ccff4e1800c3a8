"""Runs packs in this process, when they are submitted: for one recipe, and for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from automl.records import Pack, Progress, Report


class Run(Protocol):
    """`automl.train.segment.run` with its task, seen from a tower that must not import it."""

    def __call__(self, pack: Pack, *, progress: Callable[[Progress], None]) -> list[Report]: ...


class Inline:
    """An executor of capacity one that trains while `submit` is called."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._news: list[Report | Progress] = []

    @property
    def capacity(self) -> int:
        return int(not any(isinstance(n, Report) for n in self._news))

    def submit(self, pack: Pack) -> None:
        self._news += self._run(pack, progress=self._news.append)

    def reports(self, timeout: float) -> list[Report | Progress]:
        news, self._news = self._news, []
        return news

    def cancel(self, trial: int) -> None:
        """Nothing to do: a submitted pack has already ended."""

    def close(self) -> None:
        """Nothing to do: nothing was started."""
