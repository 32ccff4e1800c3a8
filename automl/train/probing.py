"""How many members train best as one program: measured, once a structure.

    gain(k) = seconds of an update alone / (seconds of a pack's update / k)

Packs of 2, 4, 8 ... members beside a single one, in turns, in CPU time (on a GPU in time), until
another doubling gains less than a tenth. Fewer members are taken where they are nearly as good.
Below a gain of 1.15 the answer is: alone.

Compiling a pack (`compiled.py`) is tried on a CPU where the trainings ahead take long: so it costs
a study 3 % of its time at most. It is chosen where it gains 1.15 times as much again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from automl.recipe import Recipe
from automl.records import Packing
from automl.tasks.task import ModelTask
from automl.train.compiled import cpu_seconds
from automl.train.declining import pads, reason_to_decline
from automl.train.failures import failure_of
from automl.train.step import EngineName, Program, engine_on

WORTH = 1.15  # below this gain, members train alone
_DOUBLING = 1.1  # what a doubling must gain to be followed by another
_NEARLY = 0.95  # of the best gain: fewer members are taken
_SLOW_SECONDS = 0.05  # of an update alone on a CPU: no pack of such models was seen to pay
_TIMED_SECONDS = 0.01  # of updates in one measurement, at least
_TURNS = 3
_COMPILED_SECONDS = 1000.0  # of CPU time ahead; compiling was seen to take 10 to 31

_FOUND: dict[Hashable, tuple[ModelTask, Packing]] = {}


def probed(task: ModelTask, recipe: Recipe, limit: int, *, trainings: float = 0.0) -> Packing:
    """What packs of up to `limit` members are worth for recipes of this one's structure."""
    key = (id(task), recipe.structure, limit, trainings)
    if key not in _FOUND:
        # With its task, whose id stays its own.
        _FOUND[key] = task, probe(task, recipe, limit, trainings=trainings)
    return _FOUND[key][1]


def probe(
    task: ModelTask, recipe: Recipe, limit: int, *, whole: bool = False, trainings: float = 0.0
) -> Packing:
    """Measure; with `whole` all sizes up to `limit`, whatever they gain.

    Args:
        trainings: full ones of this structure ahead, for which compiling may pay.
    """
    alone = _Runner(task, recipe, 1)
    alone.measure()  # twice: the first call pays for what is only done once
    single = alone.measure()
    rows = [(1, single, peak_mib())]
    if not whole and single > _SLOW_SECONDS and task.card.device == "cpu":
        return Packing(
            1, 1.0, f"an update takes {1000 * single:.0f} ms: too long to gain", _told(rows)
        )
    reason = reason_to_decline(task, recipe)
    if reason:
        return Packing(1, 1.0, reason, _told(rows))
    gains: dict[int, float] = {}
    size, ungraphed = 2, ""
    while size <= limit:
        forget_peak()
        try:
            pack = _Runner(task, recipe, size)
            pack.measure()
            turns = [(alone.measure(), pack.measure()) for _ in range(_TURNS)]
        except Exception as error:
            reason = failure_of(error).message  # out of memory, usually: what was there remains
            break
        ungraphed = pack.ungraphed and f"no CUDA graph: {pack.ungraphed}"
        # Ratios of turns, so that a busy moment slows both sides; seconds then follow from them.
        gains[size] = statistics.median(a / b for a, b in turns) * size
        rows.append((size, single / gains[size], peak_mib()))
        if not whole and size // 2 in gains and gains[size] < _DOUBLING * gains[size // 2]:
            break
        size *= 2
    best = max(gains.values(), default=0.0)
    if best < WORTH:
        text = f"in a pack each is {best:.2f} times as fast at best; {WORTH} would be worth it"
        return Packing(1, max(best, 1.0), reason or text, _told(rows))
    chosen = next(k for k, gain in gains.items() if gain >= _NEARLY * best)
    padded = _padded(task, recipe, alone)
    found = Packing(chosen, gains[chosen], ungraphed, _told(rows), padded=padded)
    ahead = trainings * alone.total * single / found.gain
    if task.card.device != "cpu" or ahead < _COMPILED_SECONDS:
        return found
    return _compiled(task, recipe, alone, found)


def tried(task: ModelTask, recipe: Recipe, members: int) -> Packing:
    """Whether packs of so many members pay, where they did for recipes of this one's kind."""
    reason = reason_to_decline(task, recipe)
    if reason:
        return Packing(1, 1.0, reason)
    alone, pack = _Runner(task, recipe, 1), _Runner(task, recipe, members)
    alone.measure(), pack.measure()
    turns = [(alone.measure(), pack.measure()) for _ in range(_TURNS)]
    gain = statistics.median(a / b for a, b in turns) * members
    single = min(a for a, _ in turns)
    rows = _told([(1, single, peak_mib()), (members, single / gain, peak_mib())])
    if gain < WORTH:
        text = f"a pack of {members} gains {gain:.2f} times, which is less than {WORTH}"
        return Packing(1, max(gain, 1.0), text, rows)
    return Packing(members, gain, "", rows, padded=_padded(task, recipe, alone))


def _padded(task: ModelTask, recipe: Recipe, alone: _Runner) -> float:
    """What of its speed a member of half the batch size keeps in padded batches; 0: none joins."""
    if not pads(task, recipe):
        return 0.0
    half = {**recipe.point, "batch_size": alone.samples // 2}
    smaller = _Runner(task, replace(recipe, point=half), 1)
    smaller.measure()
    turns = [(smaller.measure(), alone.measure()) for _ in range(_TURNS)]
    return min(statistics.median(a / b for a, b in turns), 1.0)


def _compiled(task: ModelTask, recipe: Recipe, alone: _Runner, found: Packing) -> Packing:
    """The same pack as machine code, beside the single member as before."""
    pack = _Runner(task, recipe, found.size, "compiled")
    pack.measure()
    turns = [(alone.measure(), pack.measure()) for _ in range(_TURNS)]
    gain = statistics.median(a / b for a, b in turns) * found.size
    worth = gain >= WORTH * found.gain
    return replace(
        found,
        gain=gain if worth else found.gain,
        engine="compiled" if worth else "traced",
        compiled=gain,
        compile_seconds=round(pack.compile_seconds, 1),
    )


def _told(rows: list[tuple[int, float, float]]) -> tuple[tuple[int, float, float], ...]:
    return tuple((k, float(f"{s:.4g}"), round(m, 1)) for k, s, m in rows)


@dataclass
class _Runner:
    """A program to be timed."""

    task: ModelTask
    recipe: Recipe
    size: int
    engine: str = "traced"  # of more than one member

    def __post_init__(self) -> None:
        recipes = [replace(self.recipe, seed=self.recipe.seed + k) for k in range(self.size)]
        packed = engine_on(self.task.card.device, self.engine)
        engine: EngineName = "loop" if self.size == 1 else packed
        self._program = Program(self.task, recipes, engine=engine)
        self._program.begin(1)
        began = cpu_seconds()
        self._program.step()  # traces
        self.compile_seconds = cpu_seconds() - began
        self.total = self._program.total
        self._updates = 1

    @property
    def samples(self) -> int:
        """Of a batch."""
        return self._program.sizes[0]

    @property
    def ungraphed(self) -> str:
        return self._program.ungraphed

    def measure(self) -> float:
        """Seconds of one update of all members."""
        program = self._program
        while True:
            program.begin(program.updates + self._updates)
            began = _seconds(program.device)
            for _ in range(self._updates):
                program.step().tolist()
            taken = _seconds(program.device) - began
            if taken >= _TIMED_SECONDS:
                return taken / self._updates
            self._updates *= 2


def _seconds(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()  # another process on this core does not count


def peak_mib() -> float:
    """Peak of this process's memory since `forget_peak`, in MiB; of the GPU's where one is used."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def forget_peak() -> None:
    """Begin to measure the peak anew, where the system allows it."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # then peaks only rise, and those of larger packs still tell
