"""A loop of the user's own: `def train(trial)` or a command line, seen as a segment."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType

from automl.checkpoints import META, Store
from automl.errors import CheckpointError, RecipeError, TaskError
from automl.folders import leads_out
from automl.records import Metrics, Progress, Report, Segment, Status
from automl.space.ranges import Value
from automl.tasks.task import LoopTask
from automl.train.seeding import mix, seed_all

_FOLDER = "loop"  # of the user's files, inside the checkpoint


class _Ended(BaseException):
    """Raised out of `trial.report` to end the user's loop; not an Exception, so that a
    handler of the user's lets it through."""


class TrialHandle:
    """What `def train(trial)` is given; see `tasks.task.Handle`.

    `report` ends the loop when it goes past `stop`, when the trial is to stop, and when the
    searched metric is not finite.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        start: int,
        checkpoint: Callable[[], Path],
        hear: Callable[[int, dict[str, float]], None],
    ) -> None:
        self.recipe: Mapping[str, Value] = MappingProxyType(dict(segment.recipe.at(start).point))
        self.seed = segment.recipe.seed % 2**31
        self.start, self.stop, self.steps = start, segment.stop, segment.recipe.steps
        self._make = checkpoint
        self._folder: Path | None = None
        self._hear = hear

    @property
    def checkpoint(self) -> Path:
        """A folder to go on from and to write to; made when first asked for."""
        if self._folder is None:
            self._folder = self._make()
        return self._folder

    def report(self, step: int, metrics: Mapping[str, float] | float) -> None:
        """Tell the result at `step`; a plain number is the searched metric."""
        named = metrics if isinstance(metrics, Mapping) else {"": metrics}
        self._hear(int(step), {str(n): float(v) for n, v in named.items()})


class _Hearing:
    """What a loop has reported so far."""

    def __init__(
        self,
        segment: Segment,
        metric: str,
        progress: Callable[[Progress], None],
        stop: Callable[[], Collection[int]],
    ) -> None:
        self._segment, self._metric = segment, metric
        self._progress, self._stop = progress, stop
        self.curve: dict[int, dict[str, float]] = {}
        self.names: set[str] = set()
        self.status = Status.DONE

    def hear(self, step: int, metrics: dict[str, float]) -> None:
        segment = self._segment
        if step > segment.stop:
            raise _Ended
        self.names |= {n or self._metric for n in metrics}
        named = {n if "/" in n else f"val/{n or self._metric}": v for n, v in metrics.items()}
        if not math.isfinite(named.get(f"val/{self._metric}", 0.0)):
            self.status, self.reached = Status.DIVERGED, step
            raise _Ended
        if step > segment.start:
            told = self.curve.setdefault(step, {})
            told.update(named)
            self._progress(Progress(segment.trial, step, dict(told)))
        if segment.trial in self._stop():
            self.status = Status.STOPPED
            raise _Ended

    def silence(self) -> str:
        """What is wrong with a loop that never reported the metric."""
        call = f"call trial.report(step, {{'{self._metric}': value}})"
        if not self.names:
            return f"the loop reported nothing; {call}"
        return f"the loop reported {', '.join(sorted(self.names))}, not {self._metric}; {call}"


def run_loop(
    segment: Segment,
    task: LoopTask,
    store: Store,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], Collection[int]],
) -> Report:
    """Run one segment of the user's own loop.

    `trial.checkpoint` holds what the loop left there at `trial.start`; a loop that never asks
    for it, or cannot go on, starts at 0 again. A loop that returns early is done: its last value
    stands. One that is asked to stop loses the segment, because only its return says that the
    folder is whole.

    Raises:
        TaskError: the loop ended without reporting the metric.
        RecipeError: the recipe's values change inside the segment.
        CheckpointError: what it is to go on from reaches out of its folder.
    """
    card = task.card
    known = _known(segment, store)
    if known is not None:
        return known
    if any(segment.start < at < segment.stop for at, _ in segment.recipe.changes):
        raise RecipeError("a loop of your own takes its values once; this recipe changes them")
    parent = segment.parent or (segment.trial, segment.start)
    source = store.folder(*parent) / _FOLDER if segment.start > 0 else Path()
    goes_on = segment.start > 0 and card.resumable and source.is_dir()
    link = leads_out(source) if goes_on else None
    if link is not None:
        raise CheckpointError(f"{link.name} in a checkpoint is a link that leads out of it")
    start = segment.start if goes_on else 0
    hearing = _Hearing(segment, card.metric, progress, stop)
    drafts: list[Path] = []
    began = time.perf_counter()
    with suppress(_Ended), ExitStack() as kept:

        def checkpoint() -> Path:
            draft = kept.enter_context(store.writing(segment.trial, segment.stop))
            drafts.append(draft)
            if goes_on:
                shutil.copytree(source, draft / _FOLDER)
            else:
                (draft / _FOLDER).mkdir()
            return draft / _FOLDER

        seed_all(mix(segment.recipe.seed, "loop", start))
        handle = TrialHandle(segment, start=start, checkpoint=checkpoint, hear=hearing.hear)
        with suppress(_Ended):
            task.train(handle)
        seconds = time.perf_counter() - began
        report = _report(segment, hearing, card.metric, card.device, seconds)
        if report.status is not Status.DONE:
            raise _Ended  # out of the draft, which is then discarded
        if drafts:
            meta = {"recipe_key": segment.recipe.key, "report": report.to_json()}
            (drafts[0] / META).write_text(json.dumps(meta))
    return report


def _report(
    segment: Segment, hearing: _Hearing, metric: str, device: str, seconds: float
) -> Report:
    status = hearing.status
    curve: list[tuple[int, Metrics]] = sorted(hearing.curve.items(), key=lambda entry: entry[0])
    if status is Status.DONE:
        found = [values for _, values in curve if f"val/{metric}" in values]
        if not found:
            raise TaskError(hearing.silence())
        if f"val/{metric}" not in hearing.curve.get(segment.stop, {}):
            curve = [entry for entry in curve if entry[0] < segment.stop]
            curve.append((segment.stop, {**hearing.curve.get(segment.stop, {}), **found[-1]}))
    reached = {Status.DONE: segment.stop, Status.STOPPED: segment.start}.get(status)
    if reached is None:
        reached = hearing.reached
    return Report(
        trial=segment.trial,
        start=segment.start,
        reached=reached,
        status=status,
        curve=() if status is Status.STOPPED else tuple(curve),
        seconds=seconds,
        passes=float(max(reached - segment.start, 0)),
        device=device,
        message=f"not finite at step {reached}" if status is Status.DIVERGED else "",
    )


def _known(segment: Segment, store: Store) -> Report | None:
    """The report of this very segment, when it was run before and its report was lost."""
    if not store.exists(segment.trial, segment.stop):
        return None
    meta = store.meta(segment.trial, segment.stop)
    if meta.get("recipe_key") != segment.recipe.key:
        return None
    report = Report.from_json(meta["report"])
    return report if report.start == segment.start else None
