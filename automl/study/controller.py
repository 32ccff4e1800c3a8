"""The driver: asks the strategy, hands out segments, writes the journal, ends with a verdict.

    strategy.ask -> journal -> executor.submit -> report -> journal + strategy.tell -> ...

One thread, one writer. Everything that a decision rests on is in the journal before the decision
is acted on, so a driver that is killed at any moment goes on by replay: the strategy is built
anew and asked and told again, in the recorded order, and open segments are handed out again
(a worker finds what their trials have already trained in the checkpoint store).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automl.checkpoints import Store
from automl.errors import StudyError
from automl.records import FAILURES, Pack, Progress, Report, Segment, Status
from automl.search.strategy import Failure, Strategy, make_strategy
from automl.space.tree import Space
from automl.study.budget import Budget
from automl.study.preparing import Listener, Prepared
from automl.study.state import State, StudyConfig
from automl.study.verdict import judge, next_trials

Stop = Callable[[], int]  # 0 go on, 1 finish cleanly, 2 at once

_POLL_SECONDS = 0.25  # a report wakes the driver at once; this only bounds a Ctrl-C's wait
_SAVING_SECONDS = 30.0  # for running segments to write their checkpoints when the study stops
_HOPELESS = 3  # first trials that fail in the same way: the task is wrong, not the recipes


def run(
    prepared: Prepared, *, listen: Listener = lambda event: None, stop: Stop = lambda: 0
) -> State:
    """Run a prepared study to its end, or until `stop` says so.

    `listen` hears every event of the journal as it is written, and "progress" and "phase" events
    besides. A study that has ended already is returned as it is.

    Raises:
        StudyError: the task fails whatever the recipe, with the user's own error.
    """
    return _Driver(prepared, listen, stop).run()


class _Driver:
    def __init__(self, prepared: Prepared, listen: Listener, stop: Stop) -> None:
        self.config: StudyConfig = prepared.config
        self.state = prepared.state
        self.journal = prepared.journal
        self.executor = prepared.executor
        self.store = Store(prepared.folder / "checkpoints")
        self.budget = Budget.parse(self.config.budget)
        self.listen = listen
        self.stop = stop
        self.strategy = _make_strategy(self.config, self.budget)

    def run(self) -> State:
        if self.state.verdict is not None:
            return self.state
        if self.state.config is None:
            self._record([{"kind": "study", "config": self.config.to_json()}])
        else:
            _retell(self.strategy, self.journal.events())
            self._record([{"kind": "resume"}])
            for segment in list(self.state.open.values()):
                self._submit(segment)
        try:
            finished = self._phase("search") and self._phase("verdict")
        except StudyError as error:
            self._end("failed", str(error))
            raise
        if finished:
            self._conclude()
        else:
            self._interrupt()
        return self.state

    def _phase(self, name: str) -> bool:
        """Work until nothing is left to do in this phase; False when asked to stop."""
        if name == "search" and self.state.allowance is not None:
            return True
        self.listen({"kind": "phase", "phase": name})
        ask = self._ask_search if name == "search" else self._ask_verdict
        while True:
            if self.stop():
                return False
            asked = ask()
            if not asked and not self.state.open:
                break
            self._collect(ask)
        if name == "search":
            self._record([{"kind": "judge", "allowance": self.budget.allowance(self.state)}])
        return True

    def _collect(self, ask: Callable[[], bool]) -> None:
        """Wait for news; journal what came, and what is asked because of it, in one go."""
        for news in self.executor.reports(_POLL_SECONDS):
            if isinstance(news, Progress):
                self.listen({"kind": "progress", **news.to_json()})
            else:
                self._take(news)

    # Asking ---------------------------------------------------------------------------------

    def _ask_search(self) -> bool:
        """Hand out as many segments as there are free workers; False when none was handed out."""
        segments: list[Segment] = []
        while self._free() > len(segments) and self.budget.searching(self.state):
            new = self.budget.new_trials(self.state)
            asked = self.strategy.ask(1, new=new)
            if not asked:
                break
            segments += asked
            self._record([{**self._asked(segment, "search"), "new": new} for segment in asked])
        for segment in segments:
            self._submit(segment)
        return bool(segments)

    def _ask_verdict(self) -> bool:
        planned = next_trials(self.state, allowance_fulls=self.state.allowance)
        number = max(self.state.trials, default=-1) + 1
        segments: list[Segment] = []
        for plan in planned[: max(self._free(), 0)]:
            segment = Segment(number + len(segments), plan.recipe, 0, plan.recipe.steps)
            segments.append(segment)
            self._record([self._asked(segment, plan.phase, plan.label)])
        for segment in segments:
            self._submit(segment)
        return bool(segments)

    def _asked(self, segment: Segment, phase: str, label: str = "") -> dict[str, Any]:
        label = label or self.strategy.label(segment.trial)
        return {"kind": "ask", "segment": segment.to_json(), "phase": phase, "label": label}

    def _free(self) -> int:
        return self.executor.capacity

    def _submit(self, segment: Segment) -> None:
        test = self.state.trials[segment.trial].phase != "search"
        self.executor.submit(Pack((segment,), str(self.store.root), test=test))

    # Reports --------------------------------------------------------------------------------

    def _take(self, report: Report) -> None:
        segment = self.state.open[report.trial]
        self._record([{"kind": "report", "report": report.to_json()}])
        if report.trial in self.state.open:  # lost or stopped: the same segment again
            if report.status == Status.LOST:
                self._submit(segment)
            return
        trial = self.state.trials[report.trial]
        if trial.phase == "search":
            self.strategy.tell(segment, told(report, self.state.metric))
        self._tidy(trial.number, report)
        self._give_up_if_hopeless(report)

    def _tidy(self, number: int, report: Report) -> None:
        """Keep the last checkpoint of what may go on or be wanted; the rest is disk."""
        trial = self.state.trials[number]
        best = self.state.incumbent()
        if trial.phase == "search" and trial.status != "waiting" and trial is not best:
            self.store.delete(number)
            return
        if trial is best:
            for other in self.state.finished():
                if other is not best:
                    self.store.delete(other.number)
        for step in self.store.steps(number):
            if step < report.reached:
                self.store.delete(number, step)

    def _give_up_if_hopeless(self, report: Report) -> None:
        """A task that fails whatever the recipe ends its study, with the user's own error.

        Raises:
            StudyError: the baseline failed, or the first trials all failed in one way.
        """
        if report.status not in FAILURES:
            return
        first = [t for t in self.state.search_trials() if t.status != "running"][:_HOPELESS]
        alike = len(first) == _HOPELESS and all(t.status == report.status for t in first)
        if report.trial == 0 or alike:
            who = "the baseline" if report.trial == 0 else f"the first {_HOPELESS} trials"
            trace = f"\n{report.traceback}" if report.traceback else ""
            raise StudyError(f"{who} failed ({report.status}): {report.message}{trace}")

    # Ends -----------------------------------------------------------------------------------

    def _conclude(self) -> None:
        self._record([{"kind": "verdict", "verdict": judge(self.state).to_json()}])
        for trial in self.state.search_trials():
            if trial.status == "waiting":
                self.store.delete(trial.number)
        self._end("done", "")

    def _interrupt(self) -> None:
        """Let running segments save themselves, then leave; a second stop leaves at once."""
        for number in self.state.open:
            self.executor.cancel(number)
        deadline = time.monotonic() + _SAVING_SECONDS
        running = set(self.state.open)
        while running and self.stop() < 2 and time.monotonic() < deadline:
            for news in self.executor.reports(_POLL_SECONDS):
                if isinstance(news, Report):
                    running.discard(news.trial)
                    if news.status != Status.LOST:
                        self._take(news)
        self._end("interrupted", f"automl resume {self.config.name}")

    def _end(self, status: str, message: str) -> None:
        self._record([{"kind": "end", "status": status, "message": message}])
        self.listen({"kind": "phase", "phase": "done"})

    def _record(self, events: Sequence[dict[str, Any]]) -> None:
        """Make events durable, then true, then known."""
        now = time.time()
        stamped = [{**event, "at": now} for event in events]
        self.journal.append(stamped)
        for event in stamped:
            self.state.apply(event)
            self.listen(event)


def told(report: Report, metric: str) -> dict[int, float] | Failure:
    """What a strategy is told of a report: {step: value}, nan where training diverged."""
    if report.status in FAILURES:
        return Failure(report.status.value, report.message)
    values = {step: float(m[metric]) for step, m in report.curve if metric in m}
    if report.status == Status.DIVERGED or not values:
        values[report.reached] = math.nan
    return values


def _make_strategy(config: StudyConfig, budget: Budget) -> Strategy:
    return make_strategy(
        config.strategy,
        Space.from_json(config.card.space),
        fidelity=config.fidelity,
        direction=config.card.direction,
        seed=config.seed,
        workers=config.workers,
        budget=budget.search_fulls(config),
    )


def _retell(strategy: Strategy, events: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    """Bring a new strategy to where the journal stands.

    Raises:
        StudyError: it asks for something else than it did then (another version of automl).
    """
    state = State()
    for seq, event in events:
        if event["kind"] == "ask" and event["phase"] == "search":
            segment = Segment.from_json(event["segment"])
            asked = strategy.ask(1, new=event["new"])
            if asked != [segment]:
                raise StudyError(
                    f"event {seq} of the journal asked for trial {segment.trial} otherwise than "
                    f"this version of automl would; resume it with the version that began it"
                )
        handed_out = dict(state.open)
        state.apply(event)
        if event["kind"] == "report":
            report = Report.from_json(event["report"])
            searched = state.trials[report.trial].phase == "search"
            if searched and report.trial not in state.open:
                strategy.tell(handed_out[report.trial], told(report, state.metric))
