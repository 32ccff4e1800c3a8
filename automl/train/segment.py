"""The single door of training: a Pack goes in, Reports come out.

A segment is idempotent: whoever gets it looks first for what its trial has already trained, in
the checkpoint store, and goes on from there. So a killed worker or a lost report costs at most
the time since the last evaluation, and the values are those of an undisturbed run.

A stop asked for from outside falls between two study steps and evaluates nothing: the segment,
taken up again, makes the curve that it would have made.
"""

from __future__ import annotations

import gc
import math
import resource
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from automl.checkpoints import Store
from automl.records import Metrics, Pack, Progress, Report, Segment, Status
from automl.tasks.task import LoopTask, ModelTask, Task
from automl.train.failures import failure_of
from automl.train.measure import Judged
from automl.train.own_loop import run_loop
from automl.train.step import Program

Tell = Callable[[Progress], None]
Stop = Callable[[], Collection[int]]  # numbers of the trials that are to stop at their next step

_SAVE_SECONDS = 5.0  # of training between checkpoints inside a segment, written at evaluations
_CUDA_CHECK_UPDATES = 32  # between looks at the loss on a GPU, each of which waits for it


@dataclass
class _Member:
    """One segment on its way: what its report will say."""

    segment: Segment
    at: int  # study steps trained
    furthest: int | None = None  # step of its own checkpoint to go on from
    curve: list[tuple[int, Metrics]] = field(default_factory=list)
    seconds: float = 0.0
    passes: float = 0.0
    test: Metrics | None = None

    def report(
        self, task: Task, status: Status, *, message: str = "", traceback: str = ""
    ) -> Report:
        return Report(
            trial=self.segment.trial,
            start=self.segment.start,
            reached=self.at,
            status=status,
            curve=tuple(self.curve),
            seconds=self.seconds,
            passes=self.passes,
            device=task.card.device,
            memory_mib=peak_memory_mib(task.card.device),
            test=self.test,
            message=message,
            traceback=traceback,
        )


def run(
    pack: Pack,
    task: Task,
    *,
    progress: Tell = lambda p: None,
    stop: Stop = tuple,
) -> list[Report]:
    """Train the segments of a pack, each to one Report.

    Never raises for what a recipe or the user's code does. Members that cannot walk together
    (another structure, another step to go on from) are trained one group after the other; a
    group that fails is trained member by member, so that a failure costs its own trial alone.
    """
    store, reports = Store(pack.checkpoints), []
    if isinstance(task, LoopTask):
        for segment in pack.segments:
            try:
                reports.append(run_loop(segment, task, store, progress=progress, stop=stop))
            except (Exception, SystemExit) as error:
                reports.append(_failed(_Member(segment, segment.start), task, error))
        return reports
    groups = _groups(pack, store)
    while groups:
        group = groups.pop(0)
        walk = _Walk(group, task, store, progress=progress, stop=stop, test=pack.test)
        try:
            walk.walk()
        except (Exception, SystemExit) as error:
            if len(walk.members) > 1:
                alone = (m.segment for m in walk.members)
                groups += [[_member(segment, store)] for segment in alone]
            else:
                reports.append(_failed(walk.members[0], task, error))
        reports += walk.reports
        del walk  # its tensors, before the next group makes its own
    return reports


def _groups(pack: Pack, store: Store) -> list[list[_Member]]:
    groups: dict[Hashable, list[_Member]] = {}
    for segment in pack.segments:
        member = _member(segment, store)
        recipe = segment.recipe
        key = (member.at, segment.stop, recipe.steps, recipe.structure)
        groups.setdefault(key, []).append(member)
    return list(groups.values())


def _member(segment: Segment, store: Store) -> _Member:
    """The segment, with what its trial has already trained of it."""
    for step in reversed(store.steps(segment.trial)):
        if not segment.start < step <= segment.stop:
            continue
        meta = store.meta(segment.trial, step)
        if meta["recipe_key"] == segment.recipe.key and meta["start"] == segment.start:
            curve = [(int(at), metrics) for at, metrics in meta["curve"]]
            done = meta["seconds"], meta["passes"], meta["test"]
            return _Member(segment, step, step, curve, *done)
    return _Member(segment, segment.start)


class _Walk:
    """Members of one structure, trained together from where they stand to their stop."""

    def __init__(
        self,
        members: Sequence[_Member],
        task: ModelTask,
        store: Store,
        *,
        progress: Tell,
        stop: Stop,
        test: bool,
    ) -> None:
        self.members = list(members)
        self.reports: list[Report] = []
        self._task, self._store = task, store
        self._progress, self._asked = progress, stop
        self._test = test and task.test is not None
        self._start, self._stop = members[0].segment.start, members[0].segment.stop
        self._at = members[0].at
        self._began: float | None = None  # of the time not yet shared out

    def walk(self) -> None:
        """Train to the stop, or until no member is left."""
        tested = all(m.test is not None for m in self.members) or not self._test
        if self._at == self._stop and tested:
            self._end(range(len(self.members)), Status.DONE)
            return
        self._program = Program(self._task, [m.segment.recipe for m in self.members])
        self._load()
        self._began = self._saved = time.perf_counter()
        program = self._program
        program.begin(program.updates_at(self._stop))
        cpu = program.device.type == "cpu"
        for step in range(self._at + 1, self._stop + 1):
            self._heed()
            for update in range(program.updates, program.updates_at(step)):
                if not self.members:
                    return
                loss = program.step()
                if cpu or update % _CUDA_CHECK_UPDATES == 0:
                    self._check(loss if cpu else program.losses, step)
            if not self.members:
                return
            self._at = step
            for k, member in enumerate(self.members):
                member.at = step
                member.passes += program.passes(k)
            if step % self._task.card.eval_steps == 0 or step == self._stop:
                self._evaluate(step)
        if self._test and self.members and self.members[0].test is None:
            with Judged(program) as judged:
                self._measure_test(judged)
        self._end(range(len(self.members)), Status.DONE)

    def _load(self) -> None:
        for k, m in enumerate(self.members):
            source = m.segment.parent or (m.segment.trial, self._start)
            if m.furthest is not None:
                source = (m.segment.trial, m.furthest)
            elif self._start == 0:
                continue
            tensors, meta = self._store.load(*source)
            state = {
                n.removeprefix("train/"): x for n, x in tensors.items() if n.startswith("train/")
            }
            frozen = {
                n.removeprefix("model/"): x for n, x in tensors.items() if n.startswith("model/")
            }
            # Weights that are not trained are in no row; the rest is overwritten just below.
            self._program.packed.modules[k].load_state_dict(frozen)
            self._program.load(k, state, updates=meta["updates"], counted=meta["counted"])

    # Between updates ------------------------------------------------------------------------

    def _check(self, loss: Tensor, step: int) -> None:
        """Take out the members whose loss is no longer finite."""
        gone = [k for k, x in enumerate(loss.tolist()) if not math.isfinite(x)]
        if gone:
            self._diverge(gone, step)

    def _diverge(self, gone: Sequence[int], step: int) -> None:
        for k in gone:
            self.members[k].at = step
        self._end(gone, Status.DIVERGED, message=f"not finite at step {step}")

    def _heed(self) -> None:
        """Stop the members that were asked to, with a checkpoint of where they stand."""
        asked = self._asked()
        if not asked:
            return
        stopped = [k for k, m in enumerate(self.members) if m.segment.trial in asked]
        if not stopped:
            return
        self._spend()
        if self._at > self._start:
            with Judged(self._program):
                kept = {k: self._program.packed.state(k) for k in stopped}
            for k in stopped:
                self._save(k, kept[k])
        self._end(stopped, Status.STOPPED)

    def _end(self, members: Collection[int], status: Status, *, message: str = "") -> None:
        """Report these members and go on with the others."""
        self._spend()
        self.reports += [
            self.members[k].report(self._task, status, message=message) for k in members
        ]
        rest = [k for k in range(len(self.members)) if k not in members]
        self.members = [self.members[k] for k in rest]
        if rest:
            self._program.keep(rest)
            self._program.begin(self._program.updates_at(self._stop))

    def _spend(self) -> None:
        if self._began is None:
            return
        began, self._began = self._began, time.perf_counter()
        for member in self.members:
            member.seconds += (self._began - began) / len(self.members)

    # Evaluations ----------------------------------------------------------------------------

    def _evaluate(self, step: int) -> None:
        program, last = self._program, step == self._stop
        sums = program.losses.tolist()
        finite = torch.isfinite(program.packed.w).all(dim=1).tolist()
        gone = [k for k, s in enumerate(sums) if not (finite[k] and math.isfinite(s))]
        if gone:
            self._diverge(gone, step)
            if not self.members:
                return
            sums = program.losses.tolist()
        save = last or time.perf_counter() - self._saved > _SAVE_SECONDS
        with Judged(program) as judged:
            valid = judged.metrics(self._task.valid, "val")
            if self._test and last:
                self._measure_test(judged)
            kept = [program.packed.state(k) if save else {} for k in range(len(self.members))]
        counted = program.counted
        if step % self._task.card.eval_steps == 0:
            # Only on the grid: a rung between its points leaves the later train/loss as it was.
            program.losses.zero_()
            program.counted = 0
        metric = f"val/{self._task.card.metric}"
        for k, (m, lr) in enumerate(zip(self.members, program.lr(), strict=True)):
            metrics = {**valid[k]}
            if counted:
                metrics["train/loss"] = sums[k] / counted
            if not math.isnan(lr):
                metrics["lr"] = lr
            if math.isfinite(metrics.get(metric, math.nan)):
                m.curve.append((step, metrics))
                self._progress(Progress(m.segment.trial, step, metrics))
        gone = [
            k for k in range(len(self.members)) if not math.isfinite(valid[k].get(metric, math.nan))
        ]
        self._spend()
        if save:
            for k in range(len(self.members)):
                if k not in gone:
                    self._save(k, kept[k])
            self._saved = time.perf_counter()
        if last:
            self._began = None  # the report says what the checkpoint says
        if gone:
            self._diverge(gone, step)

    def _measure_test(self, judged: Judged) -> None:
        assert self._task.test is not None
        for m, metrics in zip(self.members, judged.metrics(self._task.test, "test"), strict=True):
            m.test = metrics

    def _save(self, k: int, model: dict[str, Tensor]) -> None:
        program, m = self._program, self.members[k]
        trial, step = m.segment.trial, self._at
        tensors = {f"model/{n}": x for n, x in model.items()}
        tensors |= {f"train/{n}": x for n, x in program.state(k).items()}
        meta = {
            "recipe_key": m.segment.recipe.key,
            "start": self._start,
            "updates": program.updates,
            "counted": program.counted,
            "curve": m.curve,
            "seconds": m.seconds,
            "passes": m.passes,
            "test": m.test,
        }
        self._store.save(trial, step, tensors, meta)
        for old in self._store.steps(trial):
            if self._start < old < step:
                self._store.delete(trial, old)


def _failed(member: _Member, task: Task, error: BaseException) -> Report:
    failed = failure_of(error)
    report = member.report(task, failed.status, message=failed.message, traceback=failed.traceback)
    if failed.status is Status.OUT_OF_MEMORY:
        error.__traceback__ = None  # its frames hold the tensors that did not fit
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    return report


def peak_memory_mib(device: str) -> float:
    """Peak of this process, or of its share of the GPU, in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
