"""What the members of a pack minimize, and the losses that evaluations tell.

The loss is one method for all members, or the user's own; its numbers are each member's. A teacher,
where the loss wants one, says once a step what it makes of the batch.

Shapes: k members, b samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from automl.errors import RecipeError, TaskError
from automl.methods.stages import Batch, Hyper, Loss
from automl.registry import family
from automl.tasks.task import ModelTask
from automl.train.data import class_shares
from automl.train.lanes import Lane
from automl.train.loop_engine import Precision

LOSSES = {"classes": "cross_entropy", "tokens": "cross_entropy", "values": "mse"}

_SHARE = "sample's share"  # in the mean over its batch; no hyperparameter has such a name


class Objective:
    """The loss of k members, whose weights w [k, p] give the dtype and the device.

    Args:
        lanes: of the loss, one; none where the task has a loss of its own.
        half: outputs come in bfloat16.
        sizes: samples of each member's batch, in batches as large as the largest of them.

    Raises:
        RecipeError: the loss wants what the task does not have.
    """

    def __init__(
        self, task: ModelTask, lanes: Sequence[Lane], w: Tensor, *, half: bool, sizes: Sequence[int]
    ) -> None:
        self._task, self._half, self._dtype = task, half, w.dtype
        self._checked = False
        self._shares = _shares(sizes, w) if len(set(sizes)) > 1 else None
        self.taught: Tensor | None = None  # the teacher's outputs for the batch at hand
        self._loss = cast(Loss, lanes[0].stages[0].method) if lanes else None
        self._hyper = {n: h[:, 0] for lane in lanes for n, h in lane.stages[0].hyper.items()}
        if self._loss is not None and "shares" in self._loss.needs:
            self._hyper["shares"] = class_shares(task.train).to(w).expand(len(w), -1)
        if self._loss is not None and "teacher" in self._loss.needs and task.teacher is None:
            raise RecipeError(
                "this loss needs a teacher: --set teacher=runs/NAME/best.toml, or a `teacher` in "
                "the task file"
            )

    def learn(self, batch: Batch, precision: Precision) -> None:
        """Ask the teacher about the batch at hand, where the loss wants it."""
        teacher = self._task.teacher
        if self._loss is None or "teacher" not in self._loss.needs or teacher is None:
            return
        k, b = batch.x.shape[:2]
        with precision():
            outputs = teacher.teach(batch.x.flatten(0, 1))
        self.taught = outputs.to(self._dtype).view(k, b, *outputs.shape[1:])

    def numbers(self, progress: Callable[[], Tensor]) -> dict[str, Tensor]:
        """What the members' losses are given, [k] or [k, ...] each.

        Args:
            progress: says which share [k, 1] of the training is over.
        """
        numbers = self._hyper
        if self._loss is not None and "progress" in self._loss.needs:
            numbers = numbers | {"progress": progress()[:, 0]}
        return numbers

    def of_samples(self) -> dict[str, Tensor]:
        """What they are given of each sample of the batch at hand, [k, b, ...] each."""
        known = {_SHARE: self._shares, "teacher": self.taught}
        return {name: x for name, x in known.items() if x is not None}

    def mean(
        self,
        output: Tensor,
        y: Tensor,
        y2: Tensor | None,
        weight: Tensor | None,
        hyper: Hyper,
    ) -> Tensor:
        """Loss of one member on its batch, 0-dim."""
        if self._half:
            output = output.float()
        if not self._checked:
            self._check(output, y)
        value = self._each(output, y, hyper)
        if y2 is not None and weight is not None:
            # A user's loss may be a mean already: then the batch's mean weight serves.
            weight = weight if value.ndim else weight.mean()
            value = weight * value + (1 - weight) * self._each(output, y2, hyper)
        if self._loss is not None and self._loss.weigh is not None:
            value = value * self._loss.weigh(value.detach(), hyper)
        if _SHARE in hyper:
            return (value * hyper[_SHARE]).sum()
        return value.mean()

    def _each(self, output: Tensor, target: Tensor, hyper: Hyper) -> Tensor:
        """Loss [b] of one member; a loss of the user's own may be its mean."""
        if self._task.loss is not None:
            return self._task.loss(output, target, {})
        assert self._loss is not None
        return self._loss.value(output, target, hyper)

    def judged(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Mean losses [m] that evaluations tell, of m members' outputs [m, b, ...].

        The same for all recipes of a task, so that they compare: cross-entropy without smoothing,
        squared error, or the user's own loss.
        """
        if self._task.loss is not None:
            return torch.stack([self._task.loss(o, target, {}).mean() for o in outputs])
        method = family("loss").get(LOSSES[self._task.shape.target])
        assert isinstance(method, Loss)
        hyper = dict.fromkeys(method.ranges, outputs.new_zeros(()))
        targets = target.expand(len(outputs), *target.shape).flatten(0, 1)
        return method.value(outputs.flatten(0, 1), targets, hyper).view(len(outputs), -1).mean(1)

    def _check(self, output: object, target: Tensor) -> None:
        """Refuse an output that no loss of ours can take, in words, at the first step.

        Raises:
            TaskError: the model returns no tensor, or one of another shape.
        """
        self._checked = True
        if not isinstance(output, Tensor):
            raise TaskError(f"the model returns a {type(output).__name__}, not a tensor")
        if self._task.loss is not None:
            return
        rows = target.shape[:2] if self._task.shape.target == "tokens" else target.shape[:1]
        wanted = (*rows, self._task.shape.outputs)
        if tuple(output.shape) != wanted:
            raise TaskError(
                f"the model returns {list(output.shape)} for {len(target)} samples; "
                f"this data needs {list(wanted)}"
            )


def _shares(sizes: Sequence[int], w: Tensor) -> Tensor:
    """[k, b]: 1/n for each of a member's n samples, 0 for those that fill up its batch."""
    counts = w.new_tensor(sizes).unsqueeze(1)
    return (torch.arange(max(sizes), device=w.device) < counts) / counts
