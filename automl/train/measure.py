"""Evaluation: the weights that a recipe wants judged, on a whole split."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from automl.tasks.task import Split
from automl.train.data import chunks, resident
from automl.train.step import Program

_RECALIBRATED = 1024  # training samples that batch norm is measured anew on
_CHUNK = 512  # of them, in one forward pass


class Judged:
    """Within it the members hold the weights to evaluate; afterwards what they held before.

    Batch norm's running statistics belong to the weights that made them: where others are
    evaluated (an average, schedule-free's x), they are measured anew on training data, always
    the same, without augmentation.

    A member that is an ensemble (`Optimizer.samples`) is judged by the mean of its networks'
    predictions: of their probabilities, where the targets are classes or tokens.
    """

    def __init__(self, program: Program) -> None:
        self._program = program

    def __enter__(self) -> Judged:
        packed, found = self._program.packed, self._program.evaluated()
        self._w = packed.w.clone()
        self._buffers = [b.clone() for b in packed.buffers]
        rows = range(len(packed.modules))
        self._ensembles = {k: x for k in rows if (x := self._program.samples(k)) is not None}
        if found is not packed.w:
            packed.w.copy_(found)
            for module, now, before in zip(packed.modules, packed.w, self._w, strict=True):
                if not torch.equal(now, before):
                    _recalibrate(module, self._program)
        for module in packed.modules:
            module.eval()
        return self

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

    @torch.no_grad()
    def metrics(
        self, split: Split, prefix: str, members: Sequence[int] = (0,)
    ) -> list[dict[str, float]]:
        """Metrics of these members on the split, under names such as "val/accuracy"."""
        program, every = self._program, []
        for k in members:
            outputs, targets, loss = [], [], 0.0
            for output, y in (
                self._ensemble(k, split) if k in self._ensembles else self._one(k, split)
            ):
                loss += program.judged_loss(output, y).mean().item() * len(y)
                outputs.append(output)
                targets.append(y)
            whole = torch.cat(outputs)
            values = {program.task.card.metric: math.nan}
            # Many a metric raises at nan; a diverged trial is a value, not an error.
            if torch.isfinite(whole).all():
                values = program.task.evaluate(whole, torch.cat(targets))
            named = {f"{prefix}/{name}": float(value) for name, value in values.items()}
            every.append({f"{prefix}/loss": loss / max(len(split), 1), **named})
        return every

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

    def _one(self, k: int, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs and targets of member k's network, part by part."""
        program = self._program
        module = program.packed.modules[k]
        for x, y in chunks(split, program.device, program.dtype):
            with program.precision():
                output = module(x)
            yield output if output.dtype == torch.float64 else output.float(), y

    def _ensemble(self, k: int, split: Split) -> list[tuple[Tensor, Tensor]]:
        """Outputs and targets of member k's networks together."""
        values = self._program.task.shape.target == "values"
        count, found = len(self._ensembles[k]), list[tuple[Tensor, Tensor]]()
        for _ in self._each(k):
            for i, (output, y) in enumerate(self._one(k, split)):
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


@torch.no_grad()
def _recalibrate(module: nn.Module, program: Program) -> None:
    norms: list[Any] = [m for m in module.modules() if getattr(m, "track_running_stats", False)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches below
        norm.train()
    for x in _calibration(program):
        module(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


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
