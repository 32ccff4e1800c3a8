"""Members of one structure on their way from a step to another: train, judge, save, report.

A stop asked for from outside falls between two study steps and evaluates nothing: the segment,
taken up again, makes the curve that it would have made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from automl.checkpoints import Store
from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.records import Metrics, Progress, Report, Status
from automl.tasks.task import ModelTask
from automl.train.costs import costs
from automl.train.measure import Judged, Unread, read
from automl.train.member import Group, Member
from automl.train.patience import Patience
from automl.train.step import Program, engine_on

Tell = Callable[[Progress], None]
Stop = Callable[[], Collection[int]]  # numbers of the trials that are to stop at their next step

_SAVE_SECONDS = 5.0  # of training between checkpoints inside a segment, written at evaluations
_CUDA_CHECK_UPDATES = 32  # between looks at the loss on a GPU, each of which waits for it


More = Callable[[Sequence[Report], Sequence[int]], Sequence[tuple[Member, int]] | None]
"""Takes the reports of members that have ended and the places that are free, and gives members
that take some of these places. None: nobody has said yet; it is asked again after each update."""


class Walk:
    """Members of one structure, each trained from where it stands to its own stop.

    A pack is a program of `size` slots. Members may stand at different steps of trainings of
    different lengths: one update of the program is one of each. Where `more` gives none that takes
    the place of one that has ended, the slot goes on empty-handed: the program stays the same, and
    so does every bit of the others.
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
        more: More | None = None,
    ) -> None:
        self.members = list(group.members)
        self.reports: list[Report] = []
        self._size = group.size
        self._engine = engine_on(task.card.device, engine)
        for k, (member, place) in enumerate(zip(self.members, group.places or (0,), strict=True)):
            member.row = place if group.size > 1 else k
        self._task, self._store = task, store
        self._progress, self._asked = progress, stop
        self._test = test and task.test is not None
        self._more, self._asking = more, False
        self._began: float | None = None  # of the time not yet shared out

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(m.row for m in self.members)

    def walk(self) -> None:
        """Train every member to its stop, or until none is left."""
        there = [
            k for k, m in enumerate(self.members) if self._is_there(m) and m.tested(self._test)
        ]
        if there and (self._size > 1 or len(there) == len(self.members)):
            self._end(there, Status.DONE)
        if not self.members:
            return
        self._program = self._made()
        self._enter(self.members)
        cpu, turn = self._program.device.type == "cpu", 0
        while self.members:
            self._heed()
            if not self.members:
                return
            self._turn()
            loss = self._program.step()
            if cpu or turn % _CUDA_CHECK_UPDATES == 0:
                self._check(loss if cpu else self._program.losses)
            turn += 1
            self._arrive()
            self._refill()

    def _enter(self, members: Sequence[Member]) -> None:
        """Let members begin, or go on, in their rows of the program."""
        for m in members:
            m.patience = Patience.of(m.segment.recipe, self._task.card.direction)
        if any(m.patience and self._program.samples(m.row) is not None for m in members):
            raise RecipeError("patience keeps one network's weights, this optimizer an ensemble's")
        for m in members:
            self._load(m)
        self._began = now = time.perf_counter()
        for m in members:
            m.saved = now
        self._end_early()
        waiting = [k for k, m in enumerate(self.members) if self._is_there(m)]
        if waiting:
            if self._test:
                there = [self.members[k] for k in waiting]
                with Judged(self._program, [m.row for m in there]) as judged:
                    self._measure_test(there, judged)
            self._end(waiting, Status.DONE)
        self._arrive()  # steps that need no update
        if self.members:
            self._ahead()

    def _ahead(self) -> None:
        """Tell the program how far the member with most before it has to go."""
        program = self._program
        left = max(
            program.updates_at(m.segment.stop, m.row) - program.clock[m.row] for m in self.members
        )
        program.begin(program.updates + left)

    @staticmethod
    def _is_there(member: Member) -> bool:
        return member.at == member.segment.stop

    def _made(self) -> Program:
        recipes = [m.recipe for m in self.members]
        if self._size == 1:
            return Program(self._task, recipes)
        slots = [recipes[0]] * self._size
        for m in self.members:
            slots[m.row] = m.recipe
        return Program(self._task, slots, engine=self._engine)

    def _load(self, m: Member) -> None:
        source = m.segment.parent or (m.segment.trial, m.segment.start)
        if m.furthest is not None:
            source = (m.segment.trial, m.furthest)
        elif m.segment.start == 0:
            return
        tensors, meta = self._store.load(*source)
        state = {n.removeprefix("train/"): x for n, x in tensors.items() if n.startswith("train/")}
        frozen = {n.removeprefix("model/"): x for n, x in tensors.items() if n.startswith("model/")}
        # Weights that are not trained are in no row; the rest is overwritten just below.
        if self._program.samples(m.row) is not None:  # those of its first network
            first = (n for n in frozen if n.startswith("members.0."))
            frozen = {n.removeprefix("members.0."): frozen[n] for n in first}
        self._program.packed.modules[m.row].load_state_dict(frozen)
        # Another trial's patience is its own: a fork begins to count anew, unless it carries the
        # line on that its parent began.
        own = source[0] == m.segment.trial or m.segment.recipe.changes
        if m.patience and meta.get("patience") and own:
            m.patience.load(tensors, meta["patience"])
            if m.patience.over:  # its training ended before this step: nothing goes on from it
                return
        self._program.load(m.row, state, updates=meta["updates"], counted=meta["counted"])

    # Between updates ------------------------------------------------------------------------

    def _turn(self) -> None:
        """Give the members whose values change here those that take over."""
        program, turned = self._program, dict[int, Recipe]()
        for m in self.members:
            between = program.clock[m.row] == program.updates_at(m.at, m.row)
            if m.segment.recipe.changes and between and m.recipe != program.recipes[m.row]:
                turned[m.row] = m.recipe
        if turned:
            program.turn(turned)
            self._ahead()

    def _arrive(self) -> None:
        """Let members pass the steps whose updates they have made; judge those who are due."""
        program = self._program
        while True:
            due = []
            for k, m in enumerate(self.members):
                made = program.clock[m.row]
                while not self._is_there(m) and program.updates_at(m.at + 1, m.row) <= made:
                    m.at += 1
                    m.passes += program.pipeline.passes(m.row) + program.looked[m.row]
                    program.looked[m.row] = 0
                    if m.at % self._task.card.eval_steps == 0 or self._is_there(m):
                        due.append(k)
                        break
            if not due:
                return
            self._evaluate(due)

    def _refill(self) -> None:
        """Report those that have ended, and let others take their slots, while any trains on."""
        asking = self.reports or (self._asking and len(self.members) < self._size)
        if self._more is None or not self.members or not asking:
            return
        taken = {m.row for m in self.members}
        free = [place for place in range(self._size) if place not in taken]
        ended, self.reports = self.reports, []
        self._spend()  # what the driver thinks about is nobody's training
        found = self._more(ended, free)
        self._asking |= found is None
        self._began = time.perf_counter()
        if not found:
            return
        for m, place in found:
            m.row = place
        self.members += [m for m, _ in found]  # theirs now: should it fail, they are trained alone
        self._program.seat({place: m.recipe for m, place in found})
        self._enter([m for m, _ in found])

    def _check(self, loss: Tensor) -> None:
        """Take out the members whose loss is no longer finite."""
        found = loss.tolist()
        gone = [k for k, m in enumerate(self.members) if not math.isfinite(found[m.row])]
        if gone:
            self._diverge(gone, ahead=1)

    def _diverge(self, gone: Sequence[int], *, ahead: int = 0) -> None:
        """End members where they stand, or in the step that they were about to finish."""
        for k in gone:
            self.members[k].at += ahead
        for at in sorted({self.members[k].at for k in gone}):
            here = [k for k in gone if self.members[k].at == at]
            message = f"not finite at step {at}"
            self._spend()
            self.reports += [self._report(self.members[k], Status.DIVERGED, message) for k in here]
        self._leave(gone)

    def _heed(self) -> None:
        """Stop the members that were asked to, with a checkpoint of where they stand."""
        asked = self._asked()
        if not asked:
            return
        program = self._program
        stopped = [
            k
            for k, m in enumerate(self.members)
            if m.segment.trial in asked and program.clock[m.row] == program.updates_at(m.at, m.row)
        ]
        if not stopped:
            return
        self._spend()
        begun = [k for k in stopped if self.members[k].at > self.members[k].segment.start]
        if begun:
            rows = [self.members[k].row for k in begun]
            with Judged(program, rows) as judged:
                kept = [judged.state(row) for row in rows]
            for k, model in zip(begun, kept, strict=True):
                self._save(k, model)
        self._end(stopped, Status.STOPPED)

    def _end(self, members: Collection[int], status: Status) -> None:
        """Report these members and go on with the others."""
        self._spend()
        self.reports += [self._report(self.members[k], status) for k in members]
        self._leave(members)

    def _report(self, member: Member, status: Status, message: str = "") -> Report:
        return member.report(self._task, status, message=message, packed=self._size)

    def _leave(self, members: Collection[int]) -> None:
        rest = [k for k in range(len(self.members)) if k not in members]
        self.members = [self.members[k] for k in rest]
        if rest and self._size == 1:
            self._program.keep([m.row for m in self.members])
            for row, member in enumerate(self.members):
                member.row = row
            self._ahead()

    def _spend(self) -> None:
        if self._began is None:
            return
        began, self._began = self._began, time.perf_counter()
        for member in self.members:
            member.seconds += (self._began - began) / len(self.members)

    # Evaluations ----------------------------------------------------------------------------

    def _evaluate(self, due: Sequence[int]) -> None:
        """Judge the members of these numbers, each at its own step; end those that are there.

        All that is to be known of them is read from the device at once.
        """
        program, eval_steps, now = self._program, self._task.card.eval_steps, time.perf_counter()
        members = [self.members[k] for k in due]
        last = [m for m in members if self._is_there(m)]
        rows, count = [m.row for m in members], len(members)
        fine = torch.isfinite(program.packed.w).all(dim=1) & torch.isfinite(program.losses)
        states = [{"fine": fine[row], "sum": program.losses[row]} for row in rows]
        with Judged(program, rows) as judged:
            valid = judged.unread(self._task.valid, "val", rows)
            found = read([*states, *valid, *self._tested(last, judged)])
            state = dict(zip(members, found[:count], strict=True))
            gone = [m for m in members if not state[m]["fine"]]
            values = dict(zip(members, found[count : 2 * count], strict=True))
            values = {m: own for m, own in values.items() if m not in gone}
            for m, own in zip(last, found[2 * count :], strict=False):  # none where none is asked
                m.test = own if m in values else m.test
            self._add_costs(judged, values)
            ending = self._hear(values)
            self._put_best(ending, judged)
            saving = [
                m for m in values if m in last or m in ending or now - m.saved > _SAVE_SECONDS
            ]
            kept = {m.row: judged.state(m.row) for m in saving}
        metric = f"val/{self._task.card.metric}"
        rates = program.lr()
        for m, own in values.items():
            metrics, lr, counted = {**own}, rates[m.row], program.counted[m.row]
            if counted:
                metrics["train/loss"] = state[m]["sum"] / counted
            if m.at % eval_steps == 0:
                # Only on the grid: a rung between its points leaves the later train/loss as it was.
                program.losses[m.row] = 0
                program.counted[m.row] = 0
            if not math.isnan(lr):
                metrics["lr"] = lr
            if math.isfinite(metrics.get(metric, math.nan)):
                m.curve.append((m.at, metrics))
                self._progress(Progress(m.segment.trial, m.at, metrics))
            else:
                gone.append(m)
        self._spend()
        for m in ending:
            self._tell_best(m)
        for m in saving:
            if m in ending or m not in gone:
                self._save(self.members.index(m), kept[m.row])
                m.saved = time.perf_counter()
        if gone:
            self._diverge([self.members.index(m) for m in gone])
        done = [m for m in dict.fromkeys((*last, *ending)) if m in self.members]
        if done:
            self._began = None  # the report says what the checkpoint says
            self._end({self.members.index(m) for m in done}, Status.DONE)
            self._began = time.perf_counter()

    def _tested(self, members: Sequence[Member], judged: Judged) -> list[Unread]:
        """Their values on the test split; none where it is not asked for."""
        if not self._test or self._task.test is None or not members:
            return []
        return judged.unread(self._task.test, "test", [m.row for m in members])

    def _add_costs(self, judged: Judged, values: Mapping[Member, dict[str, float]]) -> None:
        aims = self._task.card.aims
        if aims is None or not aims.measures:
            return
        for m, metrics in values.items():
            if m.costs is None:
                m.costs = costs(self._program, judged, m.row, aims.measures)
            metrics |= m.costs

    # Early stopping -------------------------------------------------------------------------

    def _hear(self, evaluated: Mapping[Member, Metrics]) -> list[Member]:
        """Let each member's patience hear of the evaluation; those whose training ends here."""
        metric, ending = f"val/{self._task.card.metric}", []
        for m, values in evaluated.items():
            end = m.at == m.segment.recipe.steps
            value = values.get(metric, math.nan)
            grid = m.at % self._task.card.eval_steps == 0 or end
            if m.patience is None or not grid or not math.isfinite(value):
                continue
            if m.patience.better(value):
                m.patience.keep(value, values, self._program.packed.state(m.row))
            if m.patience.over or end:
                ending.append(m)
        return ending

    def _put_best(self, members: Sequence[Member], judged: Judged) -> None:
        """Give members the weights of their best evaluations, while they are judged."""
        for m in members:
            assert m.patience is not None
            self._program.packed.modules[m.row].load_state_dict(m.patience.model)
        self._measure_test(members, judged)

    def _tell_best(self, m: Member) -> None:
        """A member is done: its best values stand for the step that it was asked to reach."""
        assert m.patience is not None
        stop = m.segment.stop
        rest = dict(m.curve[-1][1]) if m.curve else {}
        if m.curve and m.curve[-1][0] == stop:
            m.curve.pop()
        m.curve.append((stop, {**rest, **m.patience.best}))
        m.at = stop
        self._progress(Progress(m.segment.trial, stop, m.curve[-1][1]))

    def _end_early(self) -> None:
        """End the members that an earlier segment found to have lost patience."""
        over = [m for m in self.members if m.patience and m.patience.over]
        if not over:
            return
        with Judged(self._program, [m.row for m in over]) as judged:
            self._put_best(over, judged)
            kept = [self._program.packed.state(m.row) for m in over]
        for m, model in zip(over, kept, strict=True):
            self._tell_best(m)
            self._save(self.members.index(m), model)
        self._end([self.members.index(m) for m in over], Status.DONE)

    def _measure_test(self, members: Sequence[Member], judged: Judged) -> None:
        for m, metrics in zip(members, read(self._tested(members, judged)), strict=False):
            m.test = metrics

    def _save(self, k: int, model: dict[str, Tensor]) -> None:
        program, m = self._program, self.members[k]
        trial, step = m.segment.trial, m.at
        tensors = {f"model/{n}": x for n, x in model.items()}
        tensors |= m.patience.tensors() if m.patience else {}
        tensors |= {f"train/{n}": x for n, x in program.state(m.row).items()}
        meta = {
            "recipe_key": m.segment.recipe.key,
            "start": m.segment.start,
            "updates": program.clock[m.row],
            "counted": program.counted[m.row],
            "curve": m.curve,
            "seconds": m.seconds,
            "passes": m.passes,
            "test": m.test,
            "patience": m.patience.meta() if m.patience else None,
        }
        self._store.save(trial, step, tensors, meta)
        for old in self._store.steps(trial):
            if m.segment.start < old < step:
                self._store.delete(trial, old)
