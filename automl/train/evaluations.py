"""What happens to members at the steps where they are judged: values, checkpoints, patience.

The walk says who is due, and ends who is found to be done or to have diverged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from automl.checkpoints import Store
from automl.records import Metrics, Progress
from automl.tasks.task import ModelTask
from automl.train.costs import costs
from automl.train.measure import Judged, Unread, read
from automl.train.member import Member
from automl.train.step import Program

Tell = Callable[[Progress], None]

_SAVE_SECONDS = 5.0  # of training between checkpoints inside a segment, written at evaluations


class Evaluations:
    """Judges members of one program, and keeps what a checkpoint must hold.

    Args:
        test: whether members are judged on the test split, too, where they stop.
    """

    def __init__(
        self,
        program: Program,
        task: ModelTask,
        store: Store,
        *,
        progress: Tell,
        test: bool,
    ) -> None:
        self._program, self._task, self._store = program, task, store
        self._progress, self._test = progress, test
        self._metric = f"val/{task.card.metric}"

    def judge(
        self, due: Sequence[Member], spend: Callable[[], None]
    ) -> tuple[list[Member], list[Member]]:
        """Judge these members, each at its own step: who has diverged, and who is done.

        All that is to be known of them is read from the device at once.

        Args:
            spend: shares out the time that was spent, before it is written down.
        """
        program, eval_steps, now = self._program, self._task.card.eval_steps, time.perf_counter()
        last = [m for m in due if m.there]
        rows, count = [m.row for m in due], len(due)
        fine = torch.isfinite(program.packed.w).all(dim=1) & torch.isfinite(program.losses)
        states = [{"fine": fine[row], "sum": program.losses[row]} for row in rows]
        with Judged(program, rows) as judged:
            valid = judged.unread(self._task.valid, "val", rows)
            found = read([*states, *valid, *self._tested(last, judged)])
            state = dict(zip(due, found[:count], strict=True))
            gone = [m for m in due if not state[m]["fine"]]
            values = dict(zip(due, found[count : 2 * count], strict=True))
            values = {m: own for m, own in values.items() if m not in gone}
            for m, own in zip(last, found[2 * count :], strict=False):  # none where none is asked
                m.test = own if m in values else m.test
            self._add_costs(judged, values)
            ending = self._hear(values)
            self._put_best(ending, judged)
            saving = [
                m for m in values if m in last or m in ending or now - m.saved > _SAVE_SECONDS
            ]
            kept = {m: judged.state(m.row) for m in saving}
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
            if math.isfinite(metrics.get(self._metric, math.nan)):
                m.curve.append((m.at, metrics))
                self._progress(Progress(m.segment.trial, m.at, metrics))
            else:
                gone.append(m)
        spend()
        for m in ending:
            self._tell_best(m)
        for m in saving:
            if m in ending or m not in gone:
                self._save(m, kept[m])
                m.saved = time.perf_counter()
        return gone, [m for m in dict.fromkeys((*last, *ending)) if m not in gone]

    def test(self, members: Sequence[Member]) -> None:
        """Judge members that stand at their stop already on the test split, where it is asked."""
        if self._test:
            with Judged(self._program, [m.row for m in members]) as judged:
                self._measure_test(members, judged)

    def keep(self, members: Sequence[Member]) -> None:
        """Write checkpoints of where members stand."""
        if not members:
            return
        with Judged(self._program, [m.row for m in members]) as judged:
            kept = [judged.state(m.row) for m in members]
        for m, model in zip(members, kept, strict=True):
            self._save(m, model)

    def end(self, members: Sequence[Member]) -> None:
        """Let members whose patience is over end with their best weights."""
        with Judged(self._program, [m.row for m in members]) as judged:
            self._put_best(members, judged)
            kept = [self._program.packed.state(m.row) for m in members]
        for m, model in zip(members, kept, strict=True):
            self._tell_best(m)
            self._save(m, model)

    # Values ---------------------------------------------------------------------------------

    def _tested(self, members: Sequence[Member], judged: Judged) -> list[Unread]:
        """Their values on the test split; none where it is not asked for."""
        if not self._test or self._task.test is None or not members:
            return []
        return judged.unread(self._task.test, "test", [m.row for m in members])

    def _measure_test(self, members: Sequence[Member], judged: Judged) -> None:
        for m, metrics in zip(members, read(self._tested(members, judged)), strict=False):
            m.test = metrics

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
        ending = []
        for m, values in evaluated.items():
            end = m.at == m.segment.recipe.steps
            value = values.get(self._metric, math.nan)
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

    # Checkpoints ----------------------------------------------------------------------------

    def _save(self, m: Member, model: dict[str, Tensor]) -> None:
        program, trial, step = self._program, m.segment.trial, m.at
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
