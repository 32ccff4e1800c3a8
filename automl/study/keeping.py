"""Which checkpoints stay, and which make room.

Needed, and never removed:
    where an open segment goes on from, its own trial's or, after a fork, another's
    what an open segment has saved on its way
    the last one of a trial that waits at a rung, of the best trial, and of a verdict's training

Without a budget all others go at once. With one they stay while there is room: the oldest go
first, and what is needed stays even where it alone is more than the budget; that is said once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from automl.checkpoints import Store
from automl.errors import CheckpointError, StudyError
from automl.records import Segment
from automl.study.state import State, Trial

_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
Say = Callable[[str], None]


def budget_bytes(text: str) -> int:
    """A size as typed: "10g", "500M", "2.5 GiB".

    Raises:
        StudyError: it is none, or nothing.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt])?i?b?\s*", text.lower())
    try:
        size = float(found.group(1)) * _UNITS.get(found.group(2) or "", 1) if found else 0.0
    except ValueError:
        size = 0.0
    if size < 1:
        raise StudyError(f"--checkpoint-budget {text}: give a size such as 10g or 500m")
    return round(size)


class Keeper:
    """Removes checkpoints that nothing needs; the driver's alone.

    Args:
        budget: bytes that checkpoints may take; None: only what is needed.
        say: hears a line for people, at most once each.
    """

    def __init__(self, store: Store, budget: int | None, say: Say) -> None:
        self._store, self._budget, self._say = store, budget, say
        self._sizes: dict[tuple[int, int], int] = {}  # oldest first; with a budget only
        self._said: set[str] = set()
        self._best: int | None = None

    def begin(self, state: State) -> None:
        """Count what an earlier driver left; needed with a budget only."""
        best = state.incumbent()
        self._best = None if best is None else best.number
        if self._budget is None or not state.trials:
            return
        try:
            found = [(t, s) for t in self._store.trials() for s in self._store.steps(t)]
            weights = {name: self._store.weight(*name) for name in found}
        except CheckpointError as error:
            self._once("count", f"checkpoints cannot be counted: {error}")
            return
        oldest = sorted(found, key=lambda name: weights[name][1])
        self._sizes = {name: weights[name][0] for name in oldest}

    def ended(self, state: State, segment: Segment) -> None:
        """A segment has ended: see what it, its parent and the best trial before leave behind."""
        touched = {segment.trial}
        if segment.parent is not None:
            touched.add(segment.parent[0])
        best = state.incumbent()
        if best is not None and best.number != self._best:
            touched |= {best.number, *([] if self._best is None else [self._best])}
            self._best = best.number
        self._tidy(state, touched)

    def concluded(self, state: State) -> None:
        """The study has its verdict: trials that wait will not go on."""
        self._tidy(state, [t.number for t in state.search_trials() if t.status == "waiting"])

    def needed(self, state: State, trial: int, step: int) -> bool:
        """Whether something may yet read this checkpoint; see above."""
        if any(_goes_on_from(s) == (trial, step) for s in state.open.values()):
            return True
        of = state.trials.get(trial)
        if of is None:
            return False
        if trial in state.open:
            return step > state.open[trial].start
        return step == of.reached and self._last_is_wanted(state, of)

    # ----------------------------------------------------------------------------------------

    def _last_is_wanted(self, state: State, trial: Trial) -> bool:
        if trial.phase != "search" or trial is state.incumbent():
            return True
        return trial.status == "waiting" and state.verdict is None

    def _tidy(self, state: State, trials: Iterable[int]) -> None:
        try:
            for trial in sorted(trials):
                steps = self._store.steps(trial)
                unneeded = [s for s in steps if not self.needed(state, trial, s)]
                if self._budget is not None:
                    self._count(trial, steps)
                elif steps == unneeded:
                    self._store.delete(trial)
                else:
                    for step in unneeded:
                        self._store.delete(trial, step)
            if self._budget is not None:
                self._make_room(state, self._budget)
        except CheckpointError as error:  # disk lost, no result: the study goes on
            self._once("remove", f"checkpoints cannot be removed: {error}")

    def _count(self, trial: int, steps: list[int]) -> None:
        gone = [name for name in self._sizes if name[0] == trial and name[1] not in steps]
        for name in gone:
            del self._sizes[name]
        for step in steps:
            if (trial, step) not in self._sizes:
                self._sizes[trial, step] = self._store.weight(trial, step)[0]

    def _make_room(self, state: State, budget: int) -> None:
        total = sum(self._sizes.values())
        for name in list(self._sizes):
            if total <= budget:
                return
            if not self.needed(state, *name):
                self._store.delete(*name)
                total -= self._sizes.pop(name)
        if total > budget:
            self._once(
                "budget",
                f"checkpoints take {_words(total)}, more than --checkpoint-budget "
                f"{_words(budget)}: all that is left may still be needed",
            )

    def _once(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._say(text)


def _goes_on_from(segment: Segment) -> tuple[int, int]:
    return segment.parent or (segment.trial, segment.start)


def _words(size: int) -> str:
    """Bytes for people.

    >>> _words(3 * 2**29)
    '1.5 GiB'
    """
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"
