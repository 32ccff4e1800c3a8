"""A loop of the user's own: `def train(trial)` or a command line, seen as a segment."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType

from automl.checkpoints import Store
from automl.errors import TaskError
from automl.records import Metrics, Pack, Progress, Report, Status
from automl.space.ranges import Value
from automl.tasks.task import LoopTask
from automl.train.seeding import INITIAL, mix


class _Stopped(BaseException):
    """Raised out of `trial.report` to end the user's loop; not an Exception, so that a
    handler of the user's lets it through."""


class TrialHandle:
    """What `def train(trial)` is given; see `tasks.task.Handle`."""

    def __init__(
        self,
        recipe: Mapping[str, Value],
        *,
        seed: int,
        start: int,
        stop: int,
        steps: int,
        checkpoint: Callable[[], Path],
        heard: Callable[[int, Metrics], bool],
    ) -> None:
        self.recipe: Mapping[str, Value] = MappingProxyType(dict(recipe))
        self.seed, self.start, self.stop, self.steps = seed, start, stop, steps
        self._checkpoint = cache(checkpoint)
        self._heard = heard

    @property
    def checkpoint(self) -> Path:
        """A folder to go on from and to write to; made when first asked for."""
        return self._checkpoint()

    def report(self, step: int, metrics: Mapping[str, float] | float) -> None:
        """Tell the result at `step`; a plain number is the searched metric."""
        values = metrics if isinstance(metrics, Mapping) else {"": float(metrics)}
        if self._heard(int(step), {str(n): float(v) for n, v in values.items()}):
            raise _Stopped


def run_loop(
    pack: Pack,
    task: LoopTask,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], Collection[int]],
) -> Report:
    """Run one segment of the user's own loop.

    The loop reads and writes `trial.checkpoint`, a folder; it holds what the loop left there at
    `trial.start`. A loop that goes past `trial.stop` is ended there.

    Raises:
        TaskError: the loop ended without reporting the metric, or reported a step twice.
    """
    (segment,) = pack.segments
    card, store = task.card, Store(pack.checkpoints)
    curve: list[tuple[int, Metrics]] = []
    others: set[str] = set()
    diverged = False

    def heard(step: int, metrics: Metrics) -> bool:
        nonlocal diverged
        if "" in metrics:
            metrics = {card.metric: metrics[""]}
        others.update(metrics)
        if card.metric in metrics and segment.start < step <= segment.stop:
            named = {n if "/" in n else f"val/{n}": v for n, v in metrics.items()}
            curve.append((step, named))
            progress(Progress(segment.trial, step, named))
            diverged = not math.isfinite(metrics[card.metric])
        return step >= segment.stop or diverged or segment.trial in stop()

    began = time.perf_counter()
    with ExitStack() as kept:

        def checkpoint() -> Path:
            draft = kept.enter_context(store.writing(segment.trial, segment.stop))
            if segment.start > 0:
                before = store.folder(*(segment.parent or (segment.trial, segment.start)))
                shutil.copytree(before, draft, dirs_exist_ok=True)
            return draft

        handle = TrialHandle(
            segment.recipe.point,
            seed=mix(segment.recipe.seed, INITIAL) % 2**31,
            start=segment.start,
            stop=segment.stop,
            steps=segment.recipe.steps,
            checkpoint=checkpoint,
            heard=heard,
        )
        with suppress(_Stopped):
            task.train(handle)
        if not curve:
            raise TaskError(_silent(card.metric, others))
    reached = curve[-1][0]
    status = Status.DONE
    if diverged:
        status = Status.DIVERGED
    elif reached < segment.stop and segment.trial in stop():
        status, reached = Status.STOPPED, segment.start
        store.delete(segment.trial, segment.stop)
    return Report(
        trial=segment.trial,
        start=segment.start,
        reached=segment.stop if status is Status.DONE else reached,
        status=status,
        curve=tuple(curve),
        seconds=time.perf_counter() - began,
        passes=float(reached - segment.start),
        device=card.device,
    )


def _silent(metric: str, others: set[str]) -> str:
    found = f"reported {', '.join(sorted(others))}, but not {metric}" if others else "never reported"
    return f"the loop {found}; call trial.report(step, {{'{metric}': value}})"
