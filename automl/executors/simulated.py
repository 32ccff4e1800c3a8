"""Training that only seems to happen: recorded curves, W workers, and a clock of its own.

A study that would take a week runs in seconds, and in the same order of events: the clock jumps
from one end of a segment to the next. What it needs is a function from (recipe, step) to the
metrics measured there and the seconds of training from step 0 to there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from automl.recipe import Recipe
from automl.records import Metrics, Pack, Report, Segment, Status

Measure = Callable[[Recipe, int], tuple[Metrics, float]]


@dataclass
class _Run:
    segment: Segment
    begun: float
    end: float
    report: Report


class Simulated:
    """The executor of recorded curves.

    `now` is the time in seconds since it was made. A metric that is nan where it is measured
    ends its segment there, as diverged. Checkpoints are assumed: any trial can go on from
    any step, at no cost.
    """

    def __init__(self, measure: Measure, *, workers: int, eval_steps: int = 1) -> None:
        self._measure = measure
        self._workers = workers
        self._eval_steps = eval_steps
        self._running: dict[int, _Run] = {}  # by trial, in order of submission
        self.now = 0.0

    @property
    def capacity(self) -> int:
        """Workers that have nothing to do."""
        return self._workers - len(self._running)

    def submit(self, pack: Pack) -> None:
        """Begin to train; more segments than free workers share them without being slower."""
        for segment in pack.segments:
            report = self._train(segment)
            self._running[segment.trial] = _Run(
                segment, self.now, self.now + report.seconds, report
            )

    def reports(self, timeout: float = 0.0) -> list[Report]:
        """Advance the clock to the next end of a segment; nothing when none runs."""
        if not self._running:
            return []
        self.now = max(self.now, min(run.end for run in self._running.values()))
        done = [trial for trial, run in self._running.items() if run.end <= self.now]
        return [self._running.pop(trial).report for trial in done]

    def cancel(self, trial: int) -> None:
        """End the trial's segment now, at the last evaluation that it has reached."""
        run = self._running.get(trial)
        if run is None:
            return
        before = self._seconds(run.segment.recipe, run.segment.start)
        curve = tuple(
            (step, metrics)
            for step, metrics in run.report.curve
            if self._seconds(run.segment.recipe, step) - before <= self.now - run.begun
        )
        reached = curve[-1][0] if curve else run.segment.start
        run.end = self.now
        run.report = replace(
            run.report,
            status=Status.STOPPED,
            reached=reached,
            curve=curve,
            seconds=self.now - run.begun,
            passes=float(reached - run.segment.start),
        )

    def close(self) -> None:
        """Forget what runs."""
        self._running.clear()

    def _train(self, segment: Segment) -> Report:
        first = segment.start // self._eval_steps + 1
        steps = list(range(first * self._eval_steps, segment.stop, self._eval_steps))
        curve: list[tuple[int, Metrics]] = []
        status = Status.DONE
        for step in (*steps, segment.stop):
            metrics, _ = self._measure(segment.recipe, step)
            curve.append((step, metrics))
            if any(math.isnan(value) for value in metrics.values()):
                status = Status.DIVERGED
                break
        reached = curve[-1][0]
        seconds = self._seconds(segment.recipe, reached) - self._seconds(
            segment.recipe, segment.start
        )
        return Report(
            trial=segment.trial,
            start=segment.start,
            reached=reached,
            status=status,
            curve=tuple(curve),
            seconds=max(seconds, 0.0),
            passes=float(reached - segment.start),
            device="simulated",
        )

    def _seconds(self, recipe: Recipe, step: int) -> float:
        return self._measure(recipe, step)[1] if step else 0.0
