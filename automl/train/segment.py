"""The single door of training: a Pack goes in, Reports come out.

A segment is idempotent: whoever gets it looks first for what its trial has already trained, in
the checkpoint store, and goes on from there. So a killed worker or a lost report costs at most
the time since the last evaluation, and the values are those of an undisturbed run.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import torch

from automl.checkpoints import Store
from automl.records import Pack, Packing, Report, Segment, Status
from automl.tasks.task import LoopTask, ModelTask, Task
from automl.train.declining import worded
from automl.train.evaluations import Tell
from automl.train.failures import failure_of
from automl.train.member import Group, Member
from automl.train.own_loop import run_loop
from automl.train.walk import Stop, Walk

__all__ = ["Newcomers", "Stop", "run"]

Newcomers = Callable[[Sequence[Report], Sequence[int]], Sequence[tuple[int, Segment]] | None]
"""Reports of members that have ended, and free places, to those that take places; see `More`."""


def run(
    pack: Pack,
    task: Task,
    *,
    progress: Tell = lambda p: None,
    stop: Stop = tuple,
    key: bytes | None = None,
    more: Newcomers = lambda reports, free: (),
) -> list[Report]:
    """Train the segments of a pack, each to one Report; `key` seals their checkpoints.

    Where the pack is to be refilled, `more` is given reports as members end, and says who takes
    which of the free places; only what it was not given comes back.

    Never raises for what a recipe or the user's code does. Members that cannot walk together
    (another structure, another step to go on from) are trained one group after the other; a
    group that fails is trained member by member, so that a failure costs its own trial alone,
    and a pack that runs out of memory in two halves.
    """
    store, reports = Store(pack.checkpoints, key=key), []
    if pack.proxies:
        from automl.train.scoring import scored  # only where asked for

        return scored(pack, task, progress=progress)
    if isinstance(task, LoopTask):
        for segment in pack.segments:
            try:
                reports.append(run_loop(segment, task, store, progress=progress, stop=stop))
            except (Exception, SystemExit) as error:
                reports.append(_failed(Member(segment, segment.start), task, error))
        return reports
    if pack.segments and pack.segments[0].recipe.stage("nas"):
        # Found by its name, as methods are: a supernet stands above training, and trains by it.
        job = importlib.import_module("automl.darts.job")
        for segment in pack.segments:
            try:
                reports.append(job.run(segment, task, store, progress=progress, stop=stop))
            except (Exception, SystemExit) as error:
                reports.append(_failed(Member(segment, segment.start), task, error))
        return reports
    packing = _probed(pack, task)
    if packing is not None and packing.size == 1 and pack.size > 1:
        pack = replace(pack, size=1)
    groups = _groups(pack, store)
    walks, unfit = len(groups), 0

    def taking(reports: Sequence[Report], free: Sequence[int]) -> list[tuple[Member, int]] | None:
        found = more(reports, free)
        return None if found is None else [(_member(s, store), place) for place, s in found]

    while groups:
        group = groups.pop(0)
        refilled = pack.refill and group.size == pack.size > 1 and walks == 1
        walk = Walk(
            group, task, store, progress=progress, stop=stop, test=pack.test, engine=pack.engine,
            more=taking if refilled else None,
        )  # fmt: skip
        try:
            walk.walk()
        except (Exception, SystemExit) as error:
            failed = failure_of(error)
            if len(walk.members) > 1 or group.size > 1:
                halves = failed.status is Status.OUT_OF_MEMORY
                rest = Group(walk.members, group.size, walk.places)
                for part in rest.apart(halves=halves):
                    again = [_member(m.segment, store) for m in part.members]
                    groups.append(Group(again, part.size, part.places))
                walks += len(groups)
                if group.size > 1 and halves:
                    unfit = max(unfit, group.size)
                elif group.size > 1:
                    packing = Packing(1, 1.0, worded(error))
            else:
                reports.append(_failed(walk.members[0], task, error))
        reports += walk.reports
        del walk  # its tensors, before the next group makes its own
    if unfit:
        fit = max((r.packed for r in reports if r.status is not Status.OUT_OF_MEMORY), default=1)
        packing = Packing(fit, 0.0, f"a pack of {unfit} did not fit into memory", unfit=unfit)
    return [replace(r, packing=packing) for r in reports] if packing else reports


def _probed(pack: Pack, task: ModelTask) -> Packing | None:
    """What the pack asks to be measured; None where the training itself will say what is wrong."""
    if not pack.probe:
        return None
    from automl.train.probing import probed, tried  # only where asked for

    try:
        if pack.size > 1:
            return tried(task, pack.segments[0].recipe, pack.size)
        return probed(task, pack.segments[0].recipe, pack.probe, trainings=pack.trainings)
    except (Exception, SystemExit):
        return None


def _groups(pack: Pack, store: Store) -> list[Group]:
    groups: dict[Hashable, list[tuple[Member, int]]] = {}
    places = pack.places or tuple(range(len(pack.segments)))
    for segment, place in zip(pack.segments, places, strict=True):
        member = _member(segment, store)
        recipe = segment.recipe
        # Where batches of several sizes cannot be padded, nobody packs them together.
        key = recipe.padded if pack.size > 1 else recipe.structure
        groups.setdefault(key, []).append((member, place))
    return [
        Group([m for m, _ in group], pack.size, tuple(p for _, p in group))
        for group in groups.values()
    ]


def _member(segment: Segment, store: Store) -> Member:
    """The segment, with what its trial has already trained of it."""
    for step in reversed(store.steps(segment.trial)):
        if not segment.start < step <= segment.stop:
            continue
        meta = store.meta(segment.trial, step)
        if meta["recipe_key"] == segment.recipe.key and meta["start"] == segment.start:
            curve = [(int(at), metrics) for at, metrics in meta["curve"]]
            done = meta["seconds"], meta["passes"], meta["test"]
            return Member(segment, step, step, curve, *done)
    return Member(segment, segment.start)


def _failed(member: Member, task: Task, error: BaseException) -> Report:
    failed = failure_of(error)
    report = member.report(task, failed.status, message=failed.message, traceback=failed.traceback)
    if failed.status is Status.OUT_OF_MEMORY:
        error.__traceback__ = None  # its frames hold the tensors that did not fit
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    return report
