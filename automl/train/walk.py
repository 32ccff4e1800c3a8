"""Members of one structure on their way from a step to another: who trains, joins and ends.

What happens where they are judged is in `evaluations.py`.

A stop asked for from outside falls between two study steps and evaluates nothing: the segment,
taken up again, makes the curve that it would have made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence

from torch import Tensor

from automl.checkpoints import Store
from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.records import Report, Status
from automl.tasks.task import ModelTask
from automl.train.evaluations import Evaluations, Tell
from automl.train.member import Group, Member
from automl.train.patience import Patience
from automl.train.step import Program, engine_on

Stop = Callable[[], Collection[int]]  # numbers of the trials that are to stop at their next step

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
        there = [m for m in self.members if m.there and m.tested(self._test)]
        if there and (self._size > 1 or len(there) == len(self.members)):
            self._end(there, Status.DONE)
        if not self.members:
            return
        self._program = self._made()
        self._evaluations = Evaluations(
            self._program,
            self._task,
            self._store,
            progress=self._progress,
            test=self._test,
        )
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
        over = [m for m in self.members if m.patience and m.patience.over]
        if over:  # that an earlier segment found to have lost patience
            self._evaluations.end(over)
            self._end(over, Status.DONE)
        there = [m for m in self.members if m.there]
        if there:
            self._evaluations.test(there)
            self._end(there, Status.DONE)
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
            for m in self.members:
                made = program.clock[m.row]
                while not m.there and program.updates_at(m.at + 1, m.row) <= made:
                    m.at += 1
                    m.passes += program.pipeline.passes(m.row) + program.looked[m.row]
                    program.looked[m.row] = 0
                    if m.at % self._task.card.eval_steps == 0 or m.there:
                        due.append(m)
                        break
            if not due:
                return
            gone, done = self._evaluations.judge(due, self._spend)
            if gone:
                self._diverge(gone)
            if done:
                self._began = None  # the report says what the checkpoint says
                self._end(done, Status.DONE)
                self._began = time.perf_counter()

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
        gone = [m for m in self.members if not math.isfinite(found[m.row])]
        if gone:
            self._diverge(gone, ahead=1)

    def _diverge(self, gone: Sequence[Member], *, ahead: int = 0) -> None:
        """End members where they stand, or in the step that they were about to finish."""
        self._spend()
        for m in sorted(gone, key=lambda m: m.at):
            m.at += ahead
            self.reports.append(self._report(m, Status.DIVERGED, f"not finite at step {m.at}"))
        self._leave(gone)

    def _heed(self) -> None:
        """Stop the members that were asked to, with a checkpoint of where they stand."""
        asked = self._asked()
        if not asked:
            return
        program = self._program
        stopped = [
            m
            for m in self.members
            if m.segment.trial in asked and program.clock[m.row] == program.updates_at(m.at, m.row)
        ]
        if not stopped:
            return
        self._spend()
        self._evaluations.keep([m for m in stopped if m.at > m.segment.start])
        self._end(stopped, Status.STOPPED)

    def _end(self, members: Sequence[Member], status: Status) -> None:
        """Report these members and go on with the others."""
        self._spend()
        self.reports += [self._report(m, status) for m in members]
        self._leave(members)

    def _report(self, member: Member, status: Status, message: str = "") -> Report:
        return member.report(self._task, status, message=message, packed=self._size)

    def _leave(self, members: Collection[Member]) -> None:
        self.members = [m for m in self.members if m not in members]
        if self.members and self._size == 1:
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
