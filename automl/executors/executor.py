"""What runs packs: a seam of four verbs, the same for this process, local processes and queues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from automl.records import Pack, Progress, Report, Segment, Vacancy


class Executor(Protocol):
    """Runs packs somewhere and brings their reports back.

    Every segment that is submitted comes back as exactly one Report, whatever happens to the
    worker that trains it: a worker that goes away makes a report of status LOST.
    """

    @property
    def capacity(self) -> int:
        """Segments that could start at once."""

    def submit(self, pack: Pack) -> None:
        """Start a pack; never blocks on training."""

    def reports(self, timeout: float) -> list[Report | Progress]:
        """News, as soon as there is any; empty after `timeout` seconds without."""

    def cancel(self, trial: int) -> None:
        """Ask a running trial to stop at its next step: it saves itself and reports STOPPED."""

    def close(self) -> None:
        """Stop everything; nothing that was started is left behind."""


@runtime_checkable
class Refilling(Protocol):
    """An executor whose packs take new members while they run, where `Pack.refill` asks for it."""

    def vacancies(self) -> list[Vacancy]:
        """Packs of which members have ended, until they are told who takes their free slots."""

    def join(self, vacancy: Vacancy, newcomers: Mapping[int, Segment]) -> None:
        """Give free places to segments, or none: the pack trains on.

        Those that come too late, for the pack has ended meanwhile, are trained all the same.
        """
