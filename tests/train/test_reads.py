"""How often an evaluation reads from its device: once, however many members a pack has."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from automl.records import Pack, Progress
from automl.tasks.fitting import all_of, plainly
from automl.tasks.metrics import METRICS
from automl.tasks.task import ModelTask
from automl.train.measure import Judged, read
from automl.train.segment import run
from automl.train.step import Program

from .small_problem import PLAIN, segment, small_task
from .test_judging import trained

_aten: Any = torch.ops.aten
_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class Reads(ExitStack):
    """Within it: how often the host has waited for numbers of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __enter__(self) -> Reads:
        super().__enter__()
        self.enter_context(_Calls(self))
        self.enter_context(_Operations(self))
        return self


class _Calls(TorchFunctionMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        before = self._reads.count
        found = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in ("tolist", "numpy", "cpu"):
            self._reads.count = before + 1  # whatever it is made of
        return found


class _Operations(TorchDispatchMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reads = reads

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        waits = operation.overloadpacket is _aten.equal
        self._reads.count += waits or any(tag in operation.tags for tag in _TAGS)
        return operation(*args, **(kwargs or {}))


def scored_by_all(task: ModelTask) -> ModelTask:
    fitting = [m for m in METRICS.values() if "classes" in m.targets]
    return replace(task, evaluate=all_of([plainly(m) for m in fitting]))


def test_reads_are_counted() -> None:
    x = torch.arange(3.0)
    with Reads() as reads:
        for waits in (
            lambda: x.sum().item(), lambda: float(x[0]), lambda: bool(x.any()), lambda: x.tolist(),
            lambda: x.numpy(), lambda: x.cpu(), lambda: x.nonzero(), lambda: x[x > 1],
            lambda: torch.equal(x, x), lambda: x.unique(),
        ):  # fmt: skip
            before = reads.count
            waits()
            assert reads.count > before
        before = reads.count
        (x + x).sum()
        assert reads.count == before


@pytest.mark.parametrize("size", [1, 2, 8])
def test_an_evaluation_of_a_pack_is_one_read(size: int, tmp_path: Path) -> None:
    counts: dict[int, int] = {}  # after the evaluation at each step
    segments = tuple(segment(PLAIN, trial=k, seed=k) for k in range(size))
    with Reads() as reads:

        def told(progress: Progress) -> None:
            counts[progress.step] = reads.count

        pack = Pack(segments, str(tmp_path), size=size)
        reports = run(pack, scored_by_all(small_task()), progress=told)
    assert len(reports) == size and all(len(r.curve[0][1]) > 6 for r in reports)
    # Every update is looked at once, here on a CPU; the last evaluation also saves checkpoints.
    assert counts[10] - counts[5] == counts[15] - counts[10] == 5 + 1


def test_both_splits_of_averaged_networks_are_two_reads() -> None:
    # The second says whose batch norm is to be measured anew.
    task = scored_by_all(small_task())
    assert task.test is not None
    for size in (2, 8):
        program = trained(task, [{**PLAIN, "averaging": "ema"}] * size)
        with Reads() as reads:
            found = values_of(program, task)
        assert reads.count == 2
        assert found == [values_of(program, task, [k])[i] for i in (0, 1) for k in range(size)]


def values_of(
    program: Program, task: ModelTask, rows: list[int] | None = None
) -> list[dict[str, float]]:
    rows = list(range(len(program.recipes))) if rows is None else rows
    assert task.test is not None
    with Judged(program, rows) as judged:
        valid = judged.unread(task.valid, "val", rows)
        return read([*valid, *judged.unread(task.test, "test", rows)])
