"""A study as plain lines, for a pipe or a log: only what matters, one line each.

Beside the first line, the smoke trial, each phase and the end, a line must be earned: one is
allowed for every two trials. What was held back is in the next line anyway, since each
tells the best so far: of several objectives the front.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from automl.records import FAILURES, Report, Status
from automl.reports import pack_words
from automl.reports.aim_words import front_words, place_words
from automl.reports.derived import found_words
from automl.reports.numerals import Scale, counted, duration
from automl.reports.tables import recipe_title
from automl.study.budget import Budget
from automl.study.prescreening import trust_words
from automl.study.state import State, StudyConfig, Trial

from .crew import summary
from .render import search_progress, tried
from .wording import TOO_LITTLE

_QUIET_SECONDS = 300.0  # some CI systems end a job that says nothing for ten minutes
_CREW_SECONDS = 60.0  # between lines on workers that come and go, while some are there


class PlainLines:
    """Writes lines through `write` as events come in; applies them to `state`."""

    def __init__(
        self, state: State, write: Callable[[str], None], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._state = state
        self._write = write
        self._clock = clock
        self._spent = 0  # earned lines that were used
        self._failures: Counter[str] = Counter()
        self._spoke = clock()
        self._crew: tuple[int, float] | None = None  # workers that were told of, and when

    def load(self, state: State) -> None:
        """Go on from `state`: the study was begun earlier."""
        self._state = state
        ended = tried(state)
        self._spent = ended // 2
        self._failures = Counter(t.status for t in state.trials.values() if _bad(t.status))
        assert state.config is not None
        there = f"goes on after {counted(ended, 'trial')}" if ended else "no trial has ended yet"
        self._line(f"{state.config.name}: {there}{self._best()}")

    def update(self, event: Mapping[str, Any]) -> None:
        """Take a journal event, or one of "smoke", "progress", "phase", "crew"."""
        kind = event["kind"]
        if kind == "smoke":
            self._begun(StudyConfig.from_json(event["config"]))
            each = duration(event["full_seconds"])
            self._line(f"smoke trial of the baseline: fine; one full training takes about {each}")
            config = StudyConfig.from_json(event["config"])
            if Budget.parse(config.budget).verdict_seeds(config) < min(2, config.seeds):
                self._line(TOO_LITTLE)
            if config.packing is not None:
                self._line(pack_words.measured(config.packing))
            elif config.pack != "off" and (why := pack_words.never(config)):
                self._line(f"trials train alone: {why}")
            pool = config.pool
            if pool is not None:
                count, each = counted(len(pool.candidates), "network"), duration(pool.seconds)
                self._line(f"prescreen {pool.proxy}: {count} scored in {each}")
        elif kind == "phase":
            self._phase(event["phase"])
        elif kind == "crew":
            self._crewed(event)
        elif kind == "note":
            self._line(event["text"])
        elif kind in ("study", "resume", "pause", "ask", "report", "judge", "verdict", "end"):
            before, paused = self._state.incumbent(), self._state.paused
            self._state.apply(event)
            if kind == "pause" and self._state.config is not None:
                self._line(f"paused; go on with: automl resume {self._state.config.name}")
            elif kind == "resume" and paused:
                self._line("goes on")
            if kind == "report":
                self._reported(Report.from_json(event["report"]), before)

    def _crewed(self, event: Mapping[str, Any]) -> None:
        """The first of a queue's workers and the last at once; others now and then."""
        count, now = len(event["workers"]), self._clock()
        if self._crew is not None:
            before, told = self._crew
            some = count > 0 and before > 0
            if count == before or (some and now - told < _CREW_SECONDS):
                return
        self._crew = count, now
        self._line(summary(event))

    def _begun(self, config: StudyConfig) -> None:
        size = counted(len(config.card.space), "hyperparameter")
        self._line(
            f"{config.name}: {config.card.about}; {size}, "
            f"budget {', '.join(config.budget)}, {counted(config.workers, 'worker')}"
        )

    def _phase(self, phase: str) -> None:
        if phase == "verdict":
            trials = counted(tried(self._state), "trial")
            together = pack_words.packed(self._state)
            trials += f" ({together})" if together else ""
            if self._state.ended_early:
                self._line(f"{self._state.ended_early}: the rest of the budget is saved")
            self._line(f"search ended after {trials}{self._best()}; fresh seeds decide now")
            if trust_words(self._state):
                self._line(trust_words(self._state))

    def _reported(self, report: Report, before: Trial | None) -> None:
        state = self._state
        trial = state.trials[report.trial]
        who = f"trial {trial.number}" + (f" ({trial.label})" if trial.label else "")
        if _bad(trial.status):
            self._failures[trial.status] += 1
            if self._failures[trial.status] == 1 or trial.phase == "supernet":
                why = f": {trial.message}" if trial.message else ""
                say = self._line if trial.phase == "supernet" else self._earned
                say(f"{who}: {trial.status}{why}")
        if fewer := pack_words.smaller(state, trial.recipe, report.packing):
            self._earned(fewer)
        if trial.found is not None:
            self._line(f"{who}: {found_words(state, trial)}")
        best, place = state.incumbent(), place_words(state, trial)
        if place:
            self._earned(f"{who}: {place}; {front_words(state)}")
        elif best is not None and best is not before:
            told = f"{who}: {self._scale.value(best.last(state.metric))}{self._gain(best)}"
            base = state.baseline()
            words = recipe_title(best.recipe, base.recipe if base else None)
            kept = state.aims.constraints and state.violation(best) == 0
            if kept and before is not None and state.violation(before) > 0:
                told += ", the first to keep the constraints"
            self._earned(told if best is base else f"{told}; best so far: {words}")
        elif self._clock() - self._spoke > _QUIET_SECONDS:
            _, left = search_progress(state)
            done = counted(tried(state), "trial")
            self._earned("; ".join(p for p in (done + self._best(), left) if p))

    @property
    def _scale(self) -> Scale:
        assert self._state.config is not None
        return Scale(self._state.config.card.metric)

    def _gain(self, best: Trial) -> str:
        base = self._state.baseline()
        a = best.last(self._state.metric)
        b = base.last(self._state.metric) if base and base.status == Status.DONE else None
        if best is base or a is None or b is None:
            return ""
        return f" ({self._scale.signed(a - b)}{self._scale.unit} against the baseline)"

    def _best(self) -> str:
        best = self._state.incumbent()
        if best is None:
            return ""
        told = f"; best {self._scale.value(best.last(self._state.metric))} (trial {best.number})"
        front = "" if self._state.aims.plain else front_words(self._state)
        return f"{told}; {front}" if front else told

    def _earned(self, text: str) -> bool:
        if self._spent > tried(self._state) // 2:
            return False
        self._spent += 1
        self._line(text)
        return True

    def _line(self, text: str) -> None:
        self._spoke = self._clock()
        self._write(" ".join(text.split()))


def _bad(status: str) -> bool:
    return status == Status.DIVERGED or status in FAILURES
