"""What proxies say of networks before they are trained: the work of a pack with `proxies`.

Each network begins as its training would, and all see one batch: the first 64 samples, in the order
that belongs to the seed of the pack's first segment.
"""

from __future__ import annotations

import time
from typing import cast

import torch

from automl.methods.stages import Proxy
from automl.records import Pack, Progress, Report, Segment, Status
from automl.registry import family
from automl.tasks.task import ModelTask, Task
from automl.train.data import Feed
from automl.train.evaluations import Tell
from automl.train.failures import failure_of
from automl.train.seeding import mix, seed_torch

_SAMPLES = 64  # more need larger networks to be told apart


def scored(pack: Pack, task: Task, *, progress: Tell) -> list[Report]:
    """One report a segment, with its scores; a network that cannot be built fails alone."""
    if not isinstance(task, ModelTask):
        words = "the task trains itself: it has no network of ours to score"
        return [Report(s.trial, 0, 0, Status.INVALID, message=words) for s in pack.segments]
    device = torch.device(task.card.device)
    seed = pack.segments[0].recipe.seed
    feed = Feed(
        task.train,
        seeds=[seed],
        sizes=[min(_SAMPLES, len(task.train))],
        device=device,
        dtype=torch.float32,
    )
    feed.begin(range(1))
    x = feed.batch(0).x[0]
    reports = []
    for number, segment in enumerate(pack.segments, 1):
        try:
            reports.append(_report(segment, task, pack.proxies, x))
        except Exception as error:
            failed = failure_of(error)
            reports.append(Report(segment.trial, 0, 0, failed.status, message=failed.message))
        progress(Progress(segment.trial, number, {}))  # a sign of life
    return reports


def _report(segment: Segment, task: ModelTask, proxies: tuple[str, ...], x: torch.Tensor) -> Report:
    begun = time.perf_counter()
    scores = {}
    for name in proxies:
        seed_torch(mix(segment.recipe.seed, "initial weights"), x.device)
        net = task.build(segment.recipe).to(x.device)
        scores[name] = cast(Proxy, family("proxy").get(name)).score(net, x)
    seconds = time.perf_counter() - begun
    return Report(segment.trial, 0, 0, Status.DONE, seconds=seconds, scores=scores)
