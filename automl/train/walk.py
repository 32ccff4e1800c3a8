"""Members of one structure on their way from a step to another: train, judge, save, report.

A stop asked for from outside falls between two study steps and evaluates nothing: the segment,
taken up again, makes the curve that it would have made.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from automl.checkpoints import Store
from automl.errors import RecipeError
from automl.records import Metrics, Progress, Report, Segment, Status
from automl.tasks.task import ModelTask, Task
from automl.train.costs import costs
from automl.train.measure import Judged
from automl.train.patience import Patience
from automl.train.step import EngineName, Program

Tell = Callable[[Progress], None]
Stop = Callable[[], Collection[int]]  # numbers of the trials that are to stop at their next step

_SAVE_SECONDS = 5.0  # of training between checkpoints inside a segment, written at evaluations
_CUDA_CHECK_UPDATES = 32  # between looks at the loss on a GPU, each of which waits for it


@dataclass
class Member:
    """One segment on its way: what its report will say."""

    segment: Segment
    at: int  # study steps trained
    furthest: int | None = None  # step of its own checkpoint to go on from
    curve: list[tuple[int, Metrics]] = field(default_factory=list)
    seconds: float = 0.0
    passes: float = 0.0
    test: Metrics | None = None
    row: int = 0  # in the program's tensors
    patience: Patience | None = None
    costs: Metrics | None = None  # that the task asks for, measured once a segment

    def report(
        self,
        task: Task,
        status: Status,
        *,
        message: str = "",
        traceback: str = "",
        packed: int = 1,
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
            packed=packed,
        )


@dataclass(frozen=True)
class Group:
    """Segments that walk together: one after the other, or as a program of `size` members."""

    members: list[Member]
    size: int = 1
    places: tuple[int, ...] = ()  # of the members, where size > 1

    def apart(self, *, halves: bool) -> list[Group]:
        """The same segments in smaller groups, from where their checkpoints stand."""
        if not halves or self.size < 4:
            return [Group([m]) for m in self.members]
        half = (self.size + 1) // 2
        parts: dict[int, list[tuple[Member, int]]] = {}
        for member, place in zip(self.members, self.places, strict=True):
            parts.setdefault(place // half, []).append((member, place % half))
        return [
            Group([m for m, _ in part], min(half, self.size - i * half), tuple(p for _, p in part))
            for i, part in parts.items()
        ]


class Walk:
    """Members of one structure, trained together from where they stand to their stop.

    A pack is a program of `size` slots. Those whose segments have ended (before a crash, by
    diverging) go on empty-handed: the program stays the same, and so does every bit of the others.
    """

    def __init__(
        self,
        group: Group,
        task: ModelTask,
        store: Store,
        *,
        progress: Tell,
        stop: Stop,
        test: bool,
        engine: str = "traced",
    ) -> None:
        self.members = list(group.members)
        self.reports: list[Report] = []
        self._size = group.size
        self._engine: EngineName = "compiled" if engine == "compiled" else "traced"
        for k, (member, place) in enumerate(zip(self.members, group.places or (0,), strict=True)):
            member.row = place if group.size > 1 else k
        self._task, self._store = task, store
        self._progress, self._asked = progress, stop
        self._test = test and task.test is not None
        first = self.members[0]
        self._start, self._stop = first.segment.start, first.segment.stop
        self._at = first.at
        self._began: float | None = None  # of the time not yet shared out

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(m.row for m in self.members)

    def walk(self) -> None:
        """Train to the stop, or until no member is left."""
        tested = all(m.test is not None for m in self.members) or not self._test
        if self._at == self._stop and tested:
            self._end(range(len(self.members)), Status.DONE)
            return
        for member in self.members:
            member.patience = Patience.of(member.segment.recipe, self._task.card.direction)
        self._program = self._made()
        if any(m.patience and self._program.samples(m.row) is not None for m in self.members):
            raise RecipeError("patience keeps one network's weights, this optimizer an ensemble's")
        self._load()
        self._began = self._saved = time.perf_counter()
        program = self._program
        self._end_early()
        if not self.members:
            return
        program.begin(program.updates_at(self._stop))
        cpu = program.device.type == "cpu"
        turns = {at for m in self.members for at, _ in m.segment.recipe.changes if at > self._at}
        for step in range(self._at + 1, self._stop + 1):
            self._heed()
            if step - 1 in turns and self.members:
                program = self._turned()
            for update in range(program.updates, program.updates_at(step)):
                if not self.members:
                    return
                loss = program.step()
                if cpu or update % _CUDA_CHECK_UPDATES == 0:
                    self._check(loss if cpu else program.losses, step)
            if not self.members:
                return
            self._at = step
            for member in self.members:
                member.at = step
                member.passes += program.passes(member.row) + float(program.looked[member.row])
            program.looked.zero_()
            if step % self._task.card.eval_steps == 0 or step == self._stop:
                self._evaluate(step)
        if self._test and self.members and self.members[0].test is None:
            with Judged(program) as judged:
                self._measure_test(judged)
        self._end(range(len(self.members)), Status.DONE)

    def _turned(self) -> Program:
        """The program under the values that take over here, with the state of the one before."""
        before = self._program
        self._program = after = self._made()
        for row in self.places:
            after.packed.modules[row].load_state_dict(before.packed.state(row))
            state = before.state(row)
            after.load(row, state, updates=before.updates, counted=before.counted)
        after.begin(after.updates_at(self._stop))
        return after

    def _made(self) -> Program:
        recipes = [m.segment.recipe.at(self._at) for m in self.members]
        if self._size == 1:
            return Program(self._task, recipes)
        slots = [recipes[0]] * self._size
        for m, recipe in zip(self.members, recipes, strict=True):
            slots[m.row] = recipe
        return Program(self._task, slots, engine=self._engine)

    def _load(self) -> None:
        for m in self.members:
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
            if self._program.samples(m.row) is not None:  # those of its first network
                first = (n for n in frozen if n.startswith("members.0."))
                frozen = {n.removeprefix("members.0."): frozen[n] for n in first}
            self._program.packed.modules[m.row].load_state_dict(frozen)
            # Another trial's patience is its own: a fork begins to count anew, unless it carries
            # the line on that its parent began.
            own = source[0] == m.segment.trial or m.segment.recipe.changes
            if m.patience and meta.get("patience") and own:
                m.patience.load(tensors, meta["patience"])
                if m.patience.over:  # its training ended before this step: nothing goes on from it
                    continue
            self._program.load(m.row, state, updates=meta["updates"], counted=meta["counted"])

    # Between updates ------------------------------------------------------------------------

    def _check(self, loss: Tensor, step: int) -> None:
        """Take out the members whose loss is no longer finite."""
        found = loss.tolist()
        gone = [k for k, m in enumerate(self.members) if not math.isfinite(found[m.row])]
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
            with Judged(self._program) as judged:
                kept = {k: judged.state(self.members[k].row) for k in stopped}
            for k in stopped:
                self._save(k, kept[k])
        self._end(stopped, Status.STOPPED)

    def _end(self, members: Collection[int], status: Status, *, message: str = "") -> None:
        """Report these members and go on with the others."""
        self._spend()
        self.reports += [
            self.members[k].report(self._task, status, message=message, packed=self._size)
            for k in members
        ]
        rest = [k for k in range(len(self.members)) if k not in members]
        self.members = [self.members[k] for k in rest]
        if rest and self._size == 1:
            for row, member in enumerate(self.members):
                member.row = row
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
        gone = [
            k
            for k, m in enumerate(self.members)
            if not (finite[m.row] and math.isfinite(sums[m.row]))
        ]
        if gone:
            self._diverge(gone, step)
            if not self.members:
                return
            sums = program.losses.tolist()
        save = last or time.perf_counter() - self._saved > _SAVE_SECONDS
        with Judged(program) as judged:
            valid = judged.metrics(self._task.valid, "val", self.places)
            self._add_costs(judged, valid)
            if self._test and last:
                self._measure_test(judged)
            ending = self._hear(step, valid)
            for k in ending:
                self._put_best(k, judged)
            rows = [save or k in ending for k in range(len(self.members))]
            kept = [
                judged.state(row) if asked else {}
                for row, asked in zip(self.places, rows, strict=True)
            ]
        counted = program.counted
        if step % self._task.card.eval_steps == 0:
            # Only on the grid: a rung between its points leaves the later train/loss as it was.
            program.losses.zero_()
            program.counted = 0
        metric = f"val/{self._task.card.metric}"
        rates = program.lr()
        for k, m in enumerate(self.members):
            metrics, lr = {**valid[k]}, rates[m.row]
            if counted:
                metrics["train/loss"] = sums[m.row] / counted
            if not math.isnan(lr):
                metrics["lr"] = lr
            if math.isfinite(metrics.get(metric, math.nan)):
                m.curve.append((step, metrics))
                self._progress(Progress(m.segment.trial, step, metrics))
        gone = [
            k for k in range(len(self.members)) if not math.isfinite(valid[k].get(metric, math.nan))
        ]
        self._spend()
        for k in ending:
            self._tell_best(k)
        for k in range(len(self.members)):
            if k in ending or (save and k not in gone):
                self._save(k, kept[k])
        if save:
            self._saved = time.perf_counter()
        if last:
            self._began = None  # the report says what the checkpoint says
        done = [] if last else [self.members[k] for k in ending]
        if gone:
            self._diverge(gone, step)
        if done:
            self._end([k for k, m in enumerate(self.members) if m in done], Status.DONE)

    def _add_costs(self, judged: Judged, valid: Sequence[dict[str, float]]) -> None:
        aims = self._task.card.aims
        if aims is None or not aims.measures:
            return
        for m, metrics in zip(self.members, valid, strict=True):
            if m.costs is None:
                m.costs = costs(self._program, judged, m.row, aims.measures)
            metrics |= m.costs

    # Early stopping -------------------------------------------------------------------------

    def _hear(self, step: int, valid: Sequence[Metrics]) -> list[int]:
        """Let each member's patience hear of the evaluation; those whose training ends here."""
        metric, ending = f"val/{self._task.card.metric}", []
        for k, m in enumerate(self.members):
            end = step == m.segment.recipe.steps
            value = valid[k].get(metric, math.nan)
            grid = step % self._task.card.eval_steps == 0 or end
            if m.patience is None or not grid or not math.isfinite(value):
                continue
            if m.patience.better(value):
                m.patience.keep(value, valid[k], self._program.packed.state(m.row))
            if m.patience.over or end:
                ending.append(k)
        return ending

    def _put_best(self, k: int, judged: Judged) -> None:
        """Give member k the weights of its best evaluation, while it is judged."""
        m = self.members[k]
        assert m.patience is not None
        self._program.packed.modules[m.row].load_state_dict(m.patience.model)
        if self._test and self._task.test is not None:
            (m.test,) = judged.metrics(self._task.test, "test", [m.row])

    def _tell_best(self, k: int) -> None:
        """Member k is done: its best values stand for the step that it was asked to reach."""
        m = self.members[k]
        assert m.patience is not None
        rest = dict(m.curve[-1][1]) if m.curve else {}
        if m.curve and m.curve[-1][0] == self._stop:
            m.curve.pop()
        m.curve.append((self._stop, {**rest, **m.patience.best}))
        m.at = self._stop
        self._progress(Progress(m.segment.trial, self._stop, m.curve[-1][1]))

    def _end_early(self) -> None:
        """End the members that an earlier segment found to have lost patience."""
        over = [k for k, m in enumerate(self.members) if m.patience and m.patience.over]
        if not over:
            return
        with Judged(self._program) as judged:
            for k in over:
                self._put_best(k, judged)
            kept = {k: self._program.packed.state(self.members[k].row) for k in over}
        for k in over:
            self._tell_best(k)
            self._save(k, kept[k])
        self._end(over, Status.DONE)

    def _measure_test(self, judged: Judged) -> None:
        assert self._task.test is not None
        found = judged.metrics(self._task.test, "test", self.places)
        for m, metrics in zip(self.members, found, strict=True):
            m.test = metrics

    def _save(self, k: int, model: dict[str, Tensor]) -> None:
        program, m = self._program, self.members[k]
        trial, step = m.segment.trial, m.at
        tensors = {f"model/{n}": x for n, x in model.items()}
        tensors |= m.patience.tensors() if m.patience else {}
        tensors |= {f"train/{n}": x for n, x in program.state(m.row).items()}
        meta = {
            "recipe_key": m.segment.recipe.key,
            "start": self._start,
            "updates": program.updates,
            "counted": program.counted,
            "curve": m.curve,
            "seconds": m.seconds,
            "passes": m.passes,
            "test": m.test,
            "patience": m.patience.meta() if m.patience else None,
        }
        self._store.save(trial, step, tensors, meta)
        for old in self._store.steps(trial):
            if self._start < old < step:
                self._store.delete(trial, old)


def peak_memory_mib(device: str) -> float:
    """Peak of this process, or of its share of the GPU, in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
