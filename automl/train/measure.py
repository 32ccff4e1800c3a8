"""Evaluation: the weights that a recipe wants judged, on a whole split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from automl.tasks.task import Split
from automl.train.data import chunks, resident
from automl.train.step import Program

if TYPE_CHECKING:
    from automl.train.judged_together import Together

_RECALIBRATED = 1024  # training samples that batch norm is measured anew on
_CHUNK = 512  # of them, in one forward pass
_HELD = 1 << 23  # numbers of members' outputs that are held at once


Unread = dict[str, Tensor | float]
"""One member's values by name: 0-dim tensors on the device, or numbers."""


def read(found: Sequence[Mapping[str, Tensor | float]]) -> list[dict[str, float]]:
    """The values as numbers: all that stand on the device in one transfer."""
    waiting = [x for each in found for x in each.values() if isinstance(x, Tensor)]
    numbers = iter(torch.stack([x.double() for x in waiting]).tolist() if waiting else ())
    return [
        {n: next(numbers) if isinstance(x, Tensor) else float(x) for n, x in each.items()}
        for each in found
    ]


class Judged:
    """Within it the members hold the weights to evaluate; afterwards what they held before.

    Batch norm's running statistics belong to the weights that made them: where others are
    evaluated (an average, schedule-free's x), they are measured anew on training data, always
    the same, without augmentation.

    A member that is an ensemble (`Optimizer.samples`) is judged by the mean of its networks'
    predictions: of their probabilities, where the targets are classes or tokens.

    Args:
        members: those that will be judged; None: all.
        together: run all members' networks as one program; None: on a GPU, where each of the many
            small operations of one network after the other would be a launch. On a CPU the batches
            of an evaluation are large enough for one network to fill it.
    """

    def __init__(
        self,
        program: Program,
        members: Collection[int] | None = None,
        *,
        together: bool | None = None,
    ) -> None:
        self._program = program
        self._members = range(len(program.recipes)) if members is None else members
        self._wanted = program.device.type == "cuda" if together is None else together

    def __enter__(self) -> Judged:
        packed, found = self._program.packed, self._program.evaluated()
        self._w = w = packed.w.clone()
        self._buffers = [b.clone() for b in packed.buffers]
        rows = self._members
        self._ensembles = {k: x for k in rows if (x := self._program.samples(k)) is not None}
        if found is not packed.w:
            packed.w.copy_(found)
            if _norms(packed.modules[0]):
                others = (packed.w != w).any(dim=1).tolist()
                for k in (k for k in rows if others[k]):
                    _recalibrate(packed.modules[k], self._program)
        for module in packed.modules:
            module.eval()
        self._together = self._made_together() if self._wanted and len(rows) > 1 else None
        return self

    def _made_together(self) -> Together:
        from automl.train.judged_together import Together  # torch.fx: a second to import

        return Together(self._program)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        packed = self._program.packed
        packed.w.copy_(self._w)
        for buffer, before in zip(packed.buffers, self._buffers, strict=True):
            buffer.copy_(before)
        for module in packed.modules:
            module.train()

    def metrics(
        self, split: Split, prefix: str, members: Sequence[int] = (0,)
    ) -> list[dict[str, float]]:
        """Metrics of these members on the split, under names such as "val/accuracy"."""
        return read(self.unread(split, prefix, members))

    @torch.no_grad()
    def unread(self, split: Split, prefix: str, members: Sequence[int]) -> list[Unread]:
        """The same, still on the device."""
        found: list[Unread] = []
        fit = max(1, _HELD // max(1, len(split) * self._program.task.shape.outputs))
        for first in range(0, len(members), fit):
            found += self._unread(split, prefix, members[first : first + fit])
        return found

    def _unread(self, split: Split, prefix: str, members: Sequence[int]) -> list[Unread]:
        program, every = self._program, []
        parts, targets = list[Tensor](), list[Tensor]()
        loss = torch.zeros(len(members), dtype=torch.float64, device=program.device)
        for output, y in self._outputs(split, members):
            loss += program.update.objective.judged(output, y) * len(y)
            parts.append(output)
            targets.append(y)
        whole = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        target = torch.cat(targets) if len(targets) > 1 else targets[0]
        loss /= max(len(split), 1)
        finite = torch.isfinite(whole.flatten(1)).all(dim=1)
        for own, mean, fine in zip(whole, loss, finite, strict=True):
            values: Unread = {f"{prefix}/loss": mean}
            for name, value in program.task.evaluate(own, target).items():
                # An accuracy of nan outputs would be a number like any other.
                known = torch.where(fine, value, math.nan) if isinstance(value, Tensor) else value
                values[f"{prefix}/{name}"] = known
            every.append(values)
        return every

    def _outputs(self, split: Split, members: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs [m, n, ...] of these members and targets [n, ...], part by part."""
        if any(k in self._ensembles for k in members):
            each = [
                self._ensemble(k, split) if k in self._ensembles else self._alone(k, split)
                for k in members
            ]
            for found in zip(*each, strict=True):
                yield torch.stack([output for output, _ in found]), found[0][1]
            return
        program, modules = self._program, self._program.packed.modules
        for x, y in chunks(split, program.device, program.dtype):  # read once for all
            output = None
            if self._together is not None and 2 * len(members) > self._together.size:
                output = self._together.outputs(x)
            if output is not None:
                yield _exact(output if len(members) == len(output) else output[list(members)]), y
                continue
            with program.precision():
                outputs = [modules[k](x) for k in members]
            yield torch.stack([_exact(o) for o in outputs]), y

    @torch.no_grad()
    def state(self, k: int) -> dict[str, Tensor]:
        """Member k's weights to keep, named as in the plain module's own state dict, copied.

        An ensemble's networks begin with "members.0.", "members.1." ...
        """
        packed = self._program.packed
        if k not in self._ensembles:
            return packed.state(k)
        found: dict[str, Tensor] = {}
        for i in self._each(k):
            found |= {f"members.{i}.{n}": x for n, x in packed.state(k).items()}
        return found

    def _alone(self, k: int, split: Split) -> list[tuple[Tensor, Tensor]]:
        """Outputs and targets of member k's network, part by part."""
        program, module = self._program, self._program.packed.modules[k]
        found = []
        for x, y in chunks(split, program.device, program.dtype):
            with program.precision():
                found.append((_exact(module(x)), y))
        return found

    def _ensemble(self, k: int, split: Split) -> list[tuple[Tensor, Tensor]]:
        """Outputs and targets of member k's networks together."""
        values = self._program.task.shape.target == "values"
        count, found = len(self._ensembles[k]), list[tuple[Tensor, Tensor]]()
        for _ in self._each(k):
            for i, (output, y) in enumerate(self._alone(k, split)):
                part = (output if values else output.softmax(-1)) / count
                if i == len(found):
                    found.append((torch.zeros_like(part), y))
                found[i][0].add_(part)
        return [(x if values else x.clamp_min(1e-30).log(), y) for x, y in found]

    def _each(self, k: int) -> Iterator[int]:
        """Put each network of member k's ensemble into its module in turn."""
        packed = self._program.packed
        module, before = packed.modules[k], packed.w[k].clone()
        buffers = [(b, b.clone()) for b in module.buffers()]
        for i, w in enumerate(self._ensembles[k]):
            packed.w[k].copy_(w)
            _recalibrate(module, self._program)
            module.eval()
            yield i
        packed.w[k].copy_(before)
        for buffer, value in buffers:
            buffer.copy_(value)


def _exact(output: Tensor) -> Tensor:
    return output if output.dtype == torch.float64 else output.float()


def _norms(module: nn.Module) -> list[Any]:
    return [m for m in module.modules() if getattr(m, "track_running_stats", False)]


@torch.no_grad()
def _recalibrate(module: nn.Module, program: Program) -> None:
    norms = _norms(module)
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    handles = [norm.register_forward_pre_hook(_averaging()) for norm in norms]
    for x in _calibration(program):
        module(x)
    for norm, momentum, handle in zip(norms, momenta, handles, strict=True):
        handle.remove()
        norm.momentum = momentum


def _averaging() -> Callable[[nn.Module, object], None]:
    """Makes a norm's statistics the plain mean of those of its calls.

    As a momentum of None does, for which torch reads its counter from the device at each call.
    """
    calls = itertools.count(1)

    def average(norm: Any, given: object) -> None:
        norm.momentum = 1 / next(calls)

    return average


def _calibration(program: Program) -> list[Tensor]:
    """Training inputs evenly through the set: a slice of a sorted one would be of one class."""
    train = program.task.train
    count = min(len(train), _RECALIBRATED)
    index = torch.arange(count) * len(train) // count
    if train.dataset is not None:
        pairs = [train.dataset[i][0] for i in index.tolist()]
        x = torch.stack([torch.as_tensor(a) for a in pairs]).to(program.device)
        x = x.to(program.dtype) if x.is_floating_point() else x
    else:
        x = resident(train, program.device, program.dtype)[0].index_select(
            0, index.to(program.device)
        )
    # Batch norm cannot measure a single sample.
    return [part for part in x.split(_CHUNK) if len(part) > 1]
