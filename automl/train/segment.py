"""The single door of training: a Pack goes in, Reports come out.

A segment is idempotent: whoever gets it looks first for what its trial has already trained, in
the checkpoint store, and goes on from there. So a killed worker or a lost report costs at most
the time since the last evaluation, and the values are those of an undisturbed run.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from automl.checkpoints import Store
from automl.records import Metrics, Pack, Progress, Report, Segment, Status
from automl.tasks.task import LoopTask, ModelTask, Task
from automl.train.failures import Failed, failure_of
from automl.train.measure import Judged, check_layout
from automl.train.own_loop import run_loop
from automl.train.step import Program

Tell = Callable[[Progress], None]
Stop = Callable[[], Collection[int]]  # numbers of the trials that are to stop at their next step

_SAVE_SECONDS = 5.0  # between checkpoints inside a segment, written at evaluations


def run(
    pack: Pack,
    task: Task,
    *,
    progress: Tell = lambda p: None,
    stop: Stop = tuple,
) -> list[Report]:
    """Train the segments of a pack; never raises for what a recipe or the user's code does."""
    reports = []
    for group in _groups(pack):
        try:
            if isinstance(task, LoopTask):
                reports += [run_loop(group, task, progress=progress, stop=stop)]
            else:
                reports += _Run(group, task, progress, stop).reports()
        except Exception as error:  # any failure of a trial is a value for the driver
            failed = failure_of(error, task)
            reports += [_failed(segment, failed, task) for segment in group.segments]
    return reports


def _groups(pack: Pack) -> list[Pack]:
    """Packs whose members share their way: the same steps, batch size and methods."""
    groups: dict[Any, list[Segment]] = {}
    for segment in pack.segments:
        point = segment.recipe.point
        structure = tuple((n, v) for n, v in point.items() if isinstance(v, str) or "." not in n)
        whole = {n: v for n, v in point.items() if n.startswith(("architecture.", "model."))}
        key = (segment.start, segment.stop, segment.recipe.steps, structure, tuple(whole.items()))
        groups.setdefault(key, []).append(segment)
    return [replace(pack, segments=tuple(segments)) for segments in groups.values()]


@dataclass
class _Member:
    segment: Segment
    curve: list[tuple[int, Metrics]] = field(default_factory=list)  # of this segment
    seconds: float = 0.0
    passes: float = 0.0
    status: Status | None = None
    reached: int = 0
    test: Metrics | None = None


class _Run:
    """One pack on its way from start to stop."""

    def __init__(self, pack: Pack, task: ModelTask, progress: Tell, stop: Stop) -> None:
        self.pack, self.task, self.progress, self.stop_asked = pack, task, progress, stop
        self.store = Store(pack.checkpoints)
        self.members = [_Member(s) for s in pack.segments]
        self.start, self.stop = pack.segments[0].start, pack.segments[0].stop
        self.program = Program(task, [s.recipe for s in pack.segments])
        self.at = self.start
        self.saved_at = time.monotonic()
        self._continue()

    def reports(self) -> list[Report]:
        """Train to the stop, or until no member is left."""
        began = time.perf_counter()
        while self.at < self.stop and self._open():
            target = self._next_evaluation()
            if not self._train_to(target):
                break
            self.at = target
            self._spend(began)
            began = time.perf_counter()
            self._evaluate()
        for k, member in enumerate(self.members):
            if member.status is None:
                member.status, member.reached = Status.DONE, self.stop
                self._test(k, member)
        self._spend(began)
        return [self._report(member) for member in self.members]

    def _open(self) -> bool:
        return any(m.status is None for m in self.members)

    def _next_evaluation(self) -> int:
        every = self.task.card.eval_steps
        return min((self.at // every + 1) * every, self.stop)

    def _train_to(self, target: int) -> bool:
        """Steps up to `target`; False when the trials were asked to stop on the way."""
        program, goal = self.program, self.program.updates_at(target)
        while program.updates < goal:
            asked = self.stop_asked()
            if asked and all(m.segment.trial in asked for m in self.members):
                self._interrupt()
                return False
            loss = program.step()
            for member in self.members:
                member.passes += program.passes_per_step * self._steps_per_update()
            if program.device.type == "cpu" and not torch.isfinite(loss).all():
                self._diverged(~torch.isfinite(loss))
                if not self._open():
                    return False
        return True

    def _steps_per_update(self) -> float:
        return self.program.batch_size / self.task.card.batch_size

    def _diverged(self, where: torch.Tensor) -> None:
        steps = math.ceil(self.program.updates * self._steps_per_update())
        for member, gone in zip(self.members, where.tolist(), strict=True):
            if gone and member.status is None:
                member.status = Status.DIVERGED
                member.reached = min(max(steps, self.start + 1), self.stop)

    def _evaluate(self) -> None:
        program = self.program
        train_loss = (program.loss_sum / max(program.loss_count, 1)).tolist()
        finite = torch.isfinite(program.members.w).all(dim=1) & torch.isfinite(program.loss_sum)
        if not finite.all():
            self._diverged(~finite)
        save = self.at >= self.stop or time.monotonic() - self.saved_at > _SAVE_SECONDS
        with Judged(program) as judged:
            valid = judged.metrics(self.task.valid, "val")
            weights = [judged.weights(k) if save else {} for k in range(len(self.members))]
        program.loss_sum.zero_()
        program.loss_count = 0
        for k, (member, lr) in enumerate(zip(self.members, program.lr(), strict=True)):
            if member.status is not None:
                continue
            metrics = {"train/loss": train_loss[k], **valid[k], "lr": lr}
            metrics = {n: v for n, v in metrics.items() if n != "lr" or not math.isnan(v)}
            member.curve.append((self.at, metrics))
            self.progress(Progress(member.segment.trial, self.at, metrics))
            if save:
                self._save(k, member, self.at, weights[k])
        if save:
            self.saved_at = time.monotonic()

    def _spend(self, began: float) -> None:
        open_members = [m for m in self.members if m.status in (None, Status.DONE)] or self.members
        share = (time.perf_counter() - began) / len(open_members)
        for member in open_members:
            member.seconds += share

    # Checkpoints ----------------------------------------------------------------------------

    def _save(self, k: int, member: _Member, step: int, weights: dict[str, torch.Tensor]) -> None:
        program = self.program
        tensors = {f"model/{n}": t for n, t in weights.items()}
        tensors |= {f"train/{n}": t for n, t in program.state(k).items()}
        meta = {
            "recipe_key": member.segment.recipe.key,
            "start": self.start,
            "updates": program.updates,
            "loss_sum": float(program.loss_sum[k]),
            "loss_count": program.loss_count,
            "curve": member.curve,
            "seconds": member.seconds,
            "passes": member.passes,
        }
        trial = member.segment.trial
        self.store.save(trial, step, tensors, meta)
        for old in self.store.steps(trial):
            if self.start < old < step:
                self.store.delete(trial, old)

    def _continue(self) -> None:
        """Start every member from the furthest checkpoint that all of them have."""
        own = [set(self._own(m.segment)) for m in self.members]
        shared = set.intersection(*own)
        if shared:
            self.at = max(shared)
            sources = [(m.segment.trial, self.at) for m in self.members]
        elif self.start > 0:
            sources = [m.segment.parent or (m.segment.trial, self.start) for m in self.members]
        else:
            return
        for k, (member, source) in enumerate(zip(self.members, sources, strict=True)):
            tensors, meta = self.store.load(*source)
            state = {n[6:]: t for n, t in tensors.items() if n.startswith("train/")}
            check_layout(self.program.members.layout, state)
            self.program.load(k, state)
            self.program.updates = meta["updates"]
            self.program.loss_count = meta["loss_count"]
            self.program.loss_sum[k] = meta["loss_sum"]
            if shared:
                member.curve = [(int(step), metrics) for step, metrics in meta["curve"]]
                member.seconds, member.passes = meta["seconds"], meta["passes"]

    def _own(self, segment: Segment) -> list[int]:
        """Steps of this very segment that the trial has already trained."""
        found = []
        for step in self.store.steps(segment.trial):
            if segment.start < step <= segment.stop:
                meta = self.store.meta(segment.trial, step)
                if meta["recipe_key"] == segment.recipe.key and meta["start"] == segment.start:
                    found.append(step)
        return found

    def _interrupt(self) -> None:
        step = math.floor(self.program.updates * self._steps_per_update())
        save = self.at < step < self.stop
        with Judged(self.program) as judged:
            weights = [judged.weights(k) for k in range(len(self.members))]
        for k, member in enumerate(self.members):
            if member.status is None:
                member.status, member.reached = Status.STOPPED, step if save else self.at
                if save:
                    self._save(k, member, step, weights[k])

    # Reports --------------------------------------------------------------------------------

    def _test(self, k: int, member: _Member) -> None:
        if self.pack.test and self.task.test is not None:
            with Judged(self.program) as judged:
                member.test = judged.metrics(self.task.test, "test")[k]

    def _report(self, member: _Member) -> Report:
        assert member.status is not None
        return Report(
            trial=member.segment.trial,
            start=self.start,
            reached=member.reached,
            status=member.status,
            curve=tuple(member.curve),
            seconds=member.seconds,
            passes=member.passes,
            device=self.task.card.device,
            memory_mib=peak_memory_mib(self.task.card.device),
            test=member.test,
            message="the loss is not finite" if member.status is Status.DIVERGED else "",
        )


def _failed(segment: Segment, failed: Failed, task: Task) -> Report:
    return Report(
        trial=segment.trial,
        start=segment.start,
        reached=segment.start,
        status=failed.status,
        device=task.card.device,
        memory_mib=peak_memory_mib(task.card.device),
        message=failed.message,
        traceback=failed.traceback,
    )


def peak_memory_mib(device: str) -> float:
    """Peak of this process, or of its share of the GPU, in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
