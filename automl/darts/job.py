"""A supernet as a segment of a study: trains, derives, and reports what it found.

    stages      the search, in one stage or several (P-DARTS: deeper, with fewer candidates)
    decisions   by perturbation: edge by edge, with training between
    found       one architecture or several, alphas over time, scores before and after

A study step is one update of the supernet. Whoever gets the segment looks first for what was
already trained: a checkpoint holds all that the next update reads, so a search that was killed
goes on bit for bit. Searched is inside the training split only; validation and test are not seen.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.checkpoints import Store
from automl.darts.derive import Perturbation, argmax, random_cells
from automl.darts.paths import best_path
from automl.darts.search import Epoch, Objective, Search, Settings
from automl.darts.supernet import Supernet
from automl.errors import RecipeError
from automl.methods.stages import Architecture, SupernetMethod
from automl.records import Metrics, Progress, Report, Segment, Status
from automl.registry import family
from automl.tasks.searching import BATCH, SupernetJob
from automl.tasks.task import ModelTask
from automl.train.member import peak_memory_mib
from automl.train.seeding import mix, seed_torch

_SAVE_SECONDS = 2.0  # of training between checkpoints
_KEPT = (1.0, 0.6, 0.4)  # of an edge's candidates, stage by stage
_ALL = 1000

Tell = Callable[[Progress], None]
Stop = Callable[[], Collection[int]]


def run(segment: Segment, task: ModelTask, store: Store, *, progress: Tell, stop: Stop) -> Report:
    """Train the supernet of `segment`, from where its last checkpoint stands, to one Report.

    Raises:
        RecipeError: the task's samples do not lie in memory, or are too few.
    """
    return _Run(segment, task, store).run(progress, stop)


class _Run:
    def __init__(self, segment: Segment, task: ModelTask, store: Store) -> None:
        self._segment, self._task, self._store = segment, task, store
        self.job = SupernetJob.of(segment.recipe.point)
        if task.train.x is None or task.train.y is None:
            raise RecipeError("--nas needs a training set of tensors, not a dataset read piecewise")
        if len(task.train.x) < 2 * BATCH:
            raise RecipeError(f"--nas splits the training set, and {len(task.train.x)} are too few")
        device = torch.device(task.card.device)
        self._x, self._y = task.train.x.to(device), task.train.y.to(device)
        self._stages = self.job.number("stages", 1)
        self._stage, self._candidates = 0, dict(self.job.candidates)
        self._before: list[Epoch] = []  # of earlier stages
        self._names: list[dict[str, tuple[str, ...]]] = []  # candidates of each epoch
        self._passes = 0.0  # of earlier stages
        self._deciding: Perturbation | None = None
        self._scores: dict[str, float] = {}
        self._seconds, self._curve = 0.0, list[tuple[int, Metrics]]()
        self._at = segment.start
        self._search: Search | None = None

    # The way -------------------------------------------------------------------------------

    def run(self, progress: Tell, stop: Stop) -> Report:
        found = self._taken_up()
        if found is not None:
            return found
        began = saved = time.perf_counter()
        spent = self._seconds
        while not self._done():
            asked = self._segment.trial in stop()
            now = time.perf_counter()
            if asked or now - saved > _SAVE_SECONDS:
                self._seconds, saved = spent + now - began, now
                self._save(self._at)
                progress(Progress(self._segment.trial, self._at, {}))
            if asked:
                return self._report(Status.STOPPED)
            told = self._advance()
            if told:
                self._curve.append((self._at, told))
                progress(Progress(self._segment.trial, self._at, told))
                if not all(math.isfinite(v) for v in told.values()):
                    self._seconds = spent + time.perf_counter() - began
                    return self._report(Status.DIVERGED, f"not finite at step {self._at}")
        result = self._derived()
        self._at = self._segment.stop
        self._curve.append((self._at, {"supernet/score": self._scores["after"]}))
        self._seconds = spent + time.perf_counter() - began
        report = self._report(Status.DONE, found=result)
        self._save(self._at, report)
        return report

    def _done(self) -> bool:
        if self.job.selection == "random":
            return True
        search = self._searching()
        if not search.finished or self._stage + 1 < self._stages:
            return False
        return self.job.selection != "perturbation" or (
            self._deciding is not None and self._deciding.finished
        )

    def _advance(self) -> Metrics | None:
        """One update; what there is to tell after it."""
        search = self._searching()
        self._at = min(self._at + 1, self._segment.stop - 1)
        if not search.finished:
            epochs = len(search.history)
            search.update()
            if len(search.history) == epochs:
                return None
            self._names.append(dict(self._candidates))
            return {"supernet/score": search.history[-1].accuracy}
        if self._stage + 1 < self._stages:
            self._next_stage(search)
            return None
        if self._deciding is None:
            self._scores["before"] = search.counted_accuracy()
            self._deciding = self._decider(search)
        decided = len(self._deciding.chosen)
        self._deciding.step()
        if len(self._deciding.chosen) == decided:
            return None
        return {"supernet/score": search.counted_accuracy()}

    def _decider(self, search: Search, **known: Any) -> Perturbation:
        return Perturbation(
            search,
            max_skips=self.job.number("max_skips", _ALL),
            fine_tune=self.job.number("fine_tune", 0),
            **known,
        )

    def _searching(self) -> Search:
        if self._search is None:
            self._search = self._made()
        return self._search

    def _made(self) -> Search:
        job, task, seed = self.job, self._task, self._segment.recipe.seed
        architecture = cast(Architecture, family("architecture").get(job.architecture))
        assert architecture.cells is not None
        seed_torch(mix(seed, "supernet", self._stage), self._x.device)
        hyper = architecture.arguments(job.numbers)
        hyper = {n: v for n, v in hyper.items() if n not in architecture.cells.edges}
        depth = architecture.cells.depth
        if self._stage and depth:
            hyper[depth] = int(hyper[depth]) + self._stage
        net = Supernet(
            task.shape,
            architecture.cells,
            candidates=self._candidates,
            hyper=hyper,
            seed=mix(seed, "alphas") % 2**63,
            parts=job.number("parts", 1),
            gated=job.method.gated,
        ).to(self._x.device)
        known = {n: v for n, v in job.hyper.items() if n in Settings.__dataclass_fields__}
        settings = Settings(**{**known, "seed": seed, "batch_size": BATCH})  # type: ignore[arg-type]
        share = settings.epochs * (self._stage + 1) // self._stages
        earlier = settings.epochs * self._stage // self._stages
        settings = Settings(**{**vars(settings), "epochs": max(1, share - earlier)})
        numbers = {n: float(v) for n, v in job.hyper.items() if isinstance(v, int | float)}
        sign = 1.0 if task.card.direction == "maximize" else -1.0
        return Search(
            net,
            self._x,
            self._y,
            settings,
            method=job.method,
            hyper=numbers,
            objective=_objective(task),
            score=lambda o, t: sign * float(task.evaluate(o, t)[task.card.metric]),
        )

    def _next_stage(self, search: Search) -> None:
        """A deeper supernet over the strongest candidates, whose alphas go on."""
        self._before += search.history
        self._passes += search.passes
        self._stage += 1
        kept: dict[str, Tensor] = {}
        for edge, alpha in search.net.alphas().items():
            names = self._candidates[edge]
            share = _KEPT[min(self._stage, len(_KEPT) - 1)]
            count = max(1, math.ceil(share * len(self.job.candidates[edge])))
            places = sorted(alpha.detach().argsort(descending=True, stable=True)[:count].tolist())
            self._candidates[edge] = tuple(names[k] for k in places)
            kept[edge] = alpha.detach()[places]
        self._search = self._made()
        with torch.no_grad():
            for edge, alpha in self._search.net.alphas().items():
                alpha.copy_(kept[edge])

    # What it found ---------------------------------------------------------------------------

    def _derived(self) -> dict[str, Any]:
        job, seed = self.job, self._segment.recipe.seed
        if job.selection == "random":
            self._scores = {"before": math.nan, "after": math.nan}
            drawn = random_cells(job.candidates, job.number("cells", 1), seed=seed)
            return self._found(drawn)
        search, max_skips = self._searching(), job.number("max_skips", _ALL)
        if job.selection == "perturbation":
            assert self._deciding is not None
            chosen = self._deciding.chosen
        elif job.selection == "paths":
            self._scores["before"] = search.counted_accuracy()
            chosen, self._scores["after"] = best_path(
                search,
                evaluations=job.number("evaluations", 1),
                sampler=str(job.hyper["sampler"]),
                max_skips=max_skips,
            )
        else:
            self._scores["before"] = search.counted_accuracy()
            chosen = argmax(search.net, max_skips=max_skips)
        for edge, name in chosen.items():
            search.net.restrict(edge, [name])
        self._scores.setdefault("after", search.counted_accuracy())
        return self._found([chosen])

    def _found(self, chosen: list[dict[str, str]]) -> dict[str, Any]:
        job = self.job
        prefix = f"architecture.{job.architecture}."
        numbers = {f"{prefix}{n}": v for n, v in job.numbers.items()}
        search = self._search
        history = [*self._before, *(search.history if search else [])]
        collapsed = search.collapsed if search else None
        return {
            "nas": job.nas,
            "points": [
                {"architecture": job.architecture, **numbers}
                | {prefix + edge: name for edge, name in edges.items()}
                for edges in chosen
            ],
            "edges": chosen,
            "weights": [
                _weights(job.method, epoch, names)
                for epoch, names in zip(history, self._names, strict=True)
            ],
            "scores": [epoch.accuracy for epoch in history],
            "sharpness": [epoch.sharpness for epoch in history],
            "collapsed": None if collapsed is None else collapsed + len(self._before),
            "before": _number(self._scores["before"]),
            "after": _number(self._scores["after"]),
            "skips": [sum(name == "skip" for name in edges.values()) for edges in chosen],
        }

    def _report(
        self, status: Status, message: str = "", found: Mapping[str, Any] | None = None
    ) -> Report:
        passes = self._passes + (self._search.passes if self._search else 0.0)
        return Report(
            trial=self._segment.trial,
            start=self._segment.start,
            reached=self._at,
            status=status,
            curve=tuple(self._curve),
            # A stopped segment is run again, and its last report counts all of it.
            seconds=0.0 if status is Status.STOPPED else self._seconds,
            passes=0.0 if status is Status.STOPPED else passes / self._task.card.batch_size,
            device=self._task.card.device,
            memory_mib=peak_memory_mib(self._task.card.device),
            message=message,
            found=found,
        )

    # Checkpoints -----------------------------------------------------------------------------

    def _save(self, step: int, report: Report | None = None) -> None:
        trial, search = self._segment.trial, self._search
        deciding = self._deciding
        meta = {
            "recipe_key": self._segment.recipe.key,
            "start": self._segment.start,
            "stage": self._stage,
            "candidates": self._candidates,
            "before": [_epoch_json(e) for e in self._before],
            "names": self._names,
            "passes": self._passes,
            "scores": self._scores,
            "seconds": self._seconds,
            "curve": self._curve,
            "history": [_epoch_json(e) for e in search.history] if search else [],
            "updates": search.updates if search else 0,
            "own_passes": search.passes if search else 0.0,
            "deciding": None if deciding is None else [deciding.chosen, deciding.updates],
            "report": None if report is None else report.to_json(),
        }
        tensors = search.state() if search else {"none": torch.zeros(1)}
        self._store.save(trial, step, tensors, meta)
        for old in self._store.steps(trial):
            if old != step:
                self._store.delete(trial, old)

    def _taken_up(self) -> Report | None:
        """Go on from the last checkpoint; the report, if the whole was done before."""
        trial = self._segment.trial
        for step in reversed(self._store.steps(trial)):
            meta = self._store.meta(trial, step)
            if meta["recipe_key"] != self._segment.recipe.key:
                continue
            if meta["report"] is not None:
                return Report.from_json(meta["report"])
            tensors, meta = self._store.load(trial, step)
            self._at, self._stage = step, meta["stage"]
            self._candidates = {e: tuple(n) for e, n in meta["candidates"].items()}
            self._before = [_epoch(e) for e in meta["before"]]
            self._names = [{e: tuple(n) for e, n in names.items()} for names in meta["names"]]
            self._passes, self._scores = meta["passes"], meta["scores"]
            self._seconds = meta["seconds"]
            self._curve = [(int(at), told) for at, told in meta["curve"]]
            search = self._searching()
            history = [_epoch(e) for e in meta["history"]]
            search.load(tensors, updates=meta["updates"], history=history)
            search.passes = meta["own_passes"]
            if meta["deciding"] is not None:
                chosen, updates = meta["deciding"]
                self._deciding = self._decider(search, chosen=chosen, updates=updates)
            return None
        return None


def _objective(task: ModelTask) -> Objective:
    if task.loss is not None:
        own = task.loss
        return lambda o, t: own(o, t, {}).mean()
    if task.shape.target == "values":
        return F.mse_loss
    if task.shape.target == "tokens":
        return lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten())
    return F.cross_entropy


def _weights(
    method: SupernetMethod, epoch: Epoch, names: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, float]]:
    """What each candidate weighs in its mixture, by edge and name."""
    return {
        edge: dict(zip(names[edge], method.weights(torch.tensor(alpha)).tolist(), strict=True))
        for edge, alpha in epoch.alphas.items()
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _epoch_json(epoch: Epoch) -> list[Any]:
    return [{e: list(a) for e, a in epoch.alphas.items()}, epoch.accuracy, epoch.sharpness]


def _epoch(data: list[Any]) -> Epoch:
    return Epoch({e: tuple(a) for e, a in data[0].items()}, data[1], data[2])
