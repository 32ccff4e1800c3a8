"""Evaluation: the weights that a recipe wants judged, on a whole split."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import Layout
from automl.tasks.task import Split
from automl.train.step import Program, gather

_CHUNK = 1024  # samples a forward pass
_RECALIBRATED = 4096  # training samples that batch norm is calibrated on again


class Judged:
    """Within it the members hold the weights to evaluate; afterwards what they held before.

    Batch norm's running statistics belong to the weights that made them: where others are
    evaluated (an average, schedule-free's x), they are measured anew on training data.
    """

    def __init__(self, program: Program) -> None:
        self._program = program

    def __enter__(self) -> Judged:
        program, members = self._program, self._program.members
        with torch.no_grad():
            found = program.evaluated()
            self._kept: tuple[Tensor, list[Tensor]] | None = None
            if found is not members.w:
                self._kept = (members.w.clone(), [b.clone() for b in members.statistics()])
                members.w.copy_(found)
                for module in members.modules:
                    _recalibrate(module, program)
        for module in members.modules:
            module.eval()
        return self

    def __exit__(self, *error: object) -> None:
        members = self._program.members
        if self._kept is not None:
            w, statistics = self._kept
            members.w.copy_(w)
            for buffer, before in zip(members.statistics(), statistics, strict=True):
                buffer.copy_(before)

    def metrics(self, split: Split, prefix: str) -> list[dict[str, float]]:
        """Metrics of each member on a split, under names such as "val/accuracy"."""
        program, out = self._program, []
        for k, module in enumerate(program.members.modules):
            outputs, targets, losses = [], [], 0.0
            with torch.no_grad():
                for index in torch.arange(len(split)).split(_CHUNK):
                    x, y = gather(split, index, program.device)
                    with program.precision():
                        output = module(x)
                    output = output.float() if output.dtype != torch.float64 else output
                    losses += float(program.sample_loss(output, y, k).mean()) * len(index)
                    outputs.append(output)
                    targets.append(y)
                whole = torch.cat(outputs)
                if torch.isfinite(whole).all():
                    values = program.task.evaluate(whole, torch.cat(targets))
                else:
                    values = {program.task.card.metric: math.nan}
            metrics = {f"{prefix}/{name}": float(v) for name, v in values.items()}
            metrics.setdefault(f"{prefix}/loss", losses / len(split))
            out.append(metrics)
        return out

    def weights(self, k: int) -> dict[str, Tensor]:
        """Member k's parameters and buffers by the names of its module's state_dict, copied."""
        return {
            n: t.detach().clone() for n, t in self._program.members.modules[k].state_dict().items()
        }


def _recalibrate(module: nn.Module, program: Program) -> None:
    norms = [m for m in module.modules() if getattr(m, "track_running_stats", False)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    module.eval()
    for m in norms:
        m.reset_running_stats()  # type: ignore[operator]
        m.momentum = None  # type: ignore[assignment]  # a plain mean over the batches below
        m.train()
    train = program.task.train
    # Evenly through the training set: a slice of a sorted one would be of one class.
    count = min(len(train), _RECALIBRATED)
    index = torch.arange(count) * len(train) // count
    for part in index.split(_CHUNK):
        if len(part) > 1:
            module(gather(train, part, program.device)[0])
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum


def check_layout(layout: Layout, tensors: dict[str, Tensor]) -> None:
    """Refuse a checkpoint of another architecture.

    Raises:
        RecipeError: the flat weights have another length.
    """
    if tensors["w"].numel() != layout.size:
        raise RecipeError(
            f"the checkpoint holds {tensors['w'].numel():,} weights, the model {layout.size:,}"
        )
