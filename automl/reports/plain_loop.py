"""The loop of `train_best.py`: one model, one recipe, plain torch. Its source is copied there.

It takes the same steps as `automl/train/update.py` does for a pack of one, with torch's own random
numbers in place of keyed ones: the same score within its spread, not the same digits. A test
holds the two together. Nothing imports this file but that test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from automl.methods.stages import Batch, Layout
from automl.tasks.task import Split
from automl.train.data import class_shares
from automl.train.packed import layout_of

CHUNK = 512  # samples a forward pass of an evaluation
RECALIBRATED = 1024  # training samples for batch norm's statistics of averaged weights


class Random:
    """Random numbers of augmentation and noise, each with a leading axis of one."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.device = device

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(1, *shape, generator=self.generator).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=self.generator).to(self.device)

    def permutation(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self.generator)[None].to(self.device)

    def beta(self, alpha: Tensor) -> Tensor:
        """Beta(alpha, alpha): the share that one of two gamma variables has in their sum."""
        pair = torch._standard_gamma(alpha.cpu().double().expand(1, 2), generator=self.generator)
        return (pair[:, :1] / pair.sum()).to(self.device, torch.float32)


class Stage(SimpleNamespace):
    """One stage of the recipe: a method's functions, its hyperparameters and its state."""

    def __init__(self, values: Mapping[str, Any], **functions: Any) -> None:
        super().__init__(values=values, hyper={}, state={}, **functions)

    def begin(self, w: Tensor, layout: Layout) -> None:
        """Make its tensors beside the weights w [1, p]."""
        numbers = {n: v for n, v in self.values.items() if not isinstance(v, str)}
        self.hyper = {n: w.new_full((1, 1), float(v)) for n, v in numbers.items() if v is not None}
        self.state = self.init(w, layout) if hasattr(self, "init") else {}


class Trainer:
    """A model, and the weights and gradients of it as one flat row each."""

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        *,
        batches: list[Stage],
        loss: Stage,
        gradient: Stage,
        transforms: list[Stage],
        optimizer: Stage,
        schedule: Stage,
        averaging: Stage,
        batch_size: int,
        seed: int,
        accumulate: int = 1,
        half: bool = False,
        scales: Mapping[str, tuple[float, float, float]] | None = None,
    ) -> None:
        self.model, self.train, self.batch_size = model, train, batch_size
        self.accumulate = accumulate  # parts of a batch that go through the model one by one
        self.half = half  # activations in bfloat16
        self.batches, self.loss, self.gradient = batches, loss, gradient
        self.transforms, self.optimizer = transforms, optimizer
        self.schedule, self.averaging = schedule, averaging
        self.layout = layout_of(model)
        parameters = dict(model.named_parameters())
        first = next(p for p in parameters.values() if p.requires_grad)
        self.device = first.device
        self.w = torch.empty((1, self.layout.size), dtype=first.dtype, device=self.device)
        self.g = torch.zeros_like(self.w)
        # The model's parameters become views of w, their gradients views of g.
        for slot in self.layout.slots:
            place = self.layout.view(self.w, slot)[0]
            place.copy_(parameters[slot.name].detach())
            parameters[slot.name].data = place
            parameters[slot.name].grad = self.layout.view(self.g, slot)[0]
        self.a: Tensor | None = None  # weights are a times what the optimizer sees
        if scales is not None:
            start, self.a, self.s = self.rows(scales)
            self.w.mul_(start)
        v = self.w if self.a is None else self.w / self.a
        self.ensemble: Tensor | None = None  # [m, p], of an optimizer that ends in one
        self.random = Random(seed, self.device)
        self.waiting = torch.empty(0, dtype=torch.int64)  # samples of this epoch still to come
        for stage in (*batches, loss, gradient, averaging):
            stage.begin(self.w, self.layout)
        for stage in (*transforms, optimizer):
            stage.begin(v, self.layout)
        # What a loss may ask for beside its own numbers.
        self.given: dict[str, Tensor] = {}
        if train.y is not None and train.y.dtype == torch.int64:
            self.given["shares"] = class_shares(train).to(self.w)

    def rows(self, scales: Mapping[str, tuple[float, float, float]]) -> list[Tensor]:
        """Each of the three factors of every weight as a row [1, p]."""
        rows = [torch.ones_like(self.w) for _ in range(3)]
        for slot in self.layout.slots:
            part = slice(slot.offset, slot.offset + slot.numel)
            for row, factor in zip(rows, scales[slot.name], strict=True):
                row[:, part] = factor
        return rows

    def step(self, update: int, total: int) -> Tensor:
        """One update of the weights; the training loss [1]."""
        self.given["progress"] = self.w.new_tensor(update / total)
        batch = self.next_batch()
        for stage in self.batches:
            batch = stage.apply(batch, self.random, stage.hyper)
        t = torch.full((1, 1), float(update + 1), dtype=self.w.dtype, device=self.device)

        def closure(statistics: bool = True) -> tuple[Tensor, Tensor]:
            self.model.train()
            kept = [] if statistics else [(b, b.clone()) for b in self.model.buffers()]
            self.g.zero_()
            total_loss = self.w.new_zeros(1)
            for part in batch.parts(self.accumulate):
                with torch.enable_grad():
                    loss = self.mean_loss(part) * (part.x.shape[1] / batch.x.shape[1])
                    loss.backward()
                total_loss += loss.detach()
            for buffer, before in kept:
                buffer.copy_(before)
            return total_loss, self.g

        scheduled = self.scheduled(update, total)
        factor = {"factor": scheduled["factor"]}
        at = self.gradient
        asked = [closure, self.w, at.state, at.hyper | factor, t]
        if at.chain is not None:
            asked.append(self.chain(batch, update))
        with torch.no_grad():
            loss, g = at.compute(*asked)
        with torch.no_grad():
            if self.a is not None:
                self.w.div_(self.a)
                g.mul_(self.s)
            for at in self.transforms:
                hyper = at.hyper | factor | {"lr": scheduled.get("lr", scheduled["factor"])}
                at.apply(g, self.w, at.state, hyper, t, self.layout, self.random)
            at = self.optimizer
            if at.draw is not None:
                scheduled |= at.draw(self.layout, self.random)
            given = [self.w, g, at.state, scheduled, t, self.layout]
            if at.looks is not None:
                given.append(self.looks(batch, update))
            at.step(*given)
            if self.a is not None:
                self.w.mul_(self.a)
            at = self.averaging
            at.update(self.w, at.state, at.hyper, t, torch.full_like(t, float(total)))
        return loss  # type: ignore[no-any-return]

    def mean_loss(self, batch: Batch) -> Tensor:
        y2 = None if batch.y2 is None else batch.y2[0]
        weight = None if batch.weight is None else batch.weight[0]
        return self.own_loss(0, self.forward(batch.x[0]), batch.y[0], y2, weight)

    def own_loss(
        self, k: int, output: Tensor, y: Tensor, y2: Tensor | None, weight: Tensor | None
    ) -> Tensor:
        value = self.sample_loss(output, y)
        if y2 is not None and weight is not None:
            value = weight * value + (1 - weight) * self.sample_loss(output, y2)
        if self.loss.weigh is not None:
            value = value * self.loss.weigh(value.detach(), self.loss_hyper())
        return value.mean()

    def chain(self, batch: Batch, update: int) -> Any:
        """The model opened between its layers, for a gradient that asks."""
        return self.gradient.chain(
            [self.model.train()],
            self.layout,
            batch,
            loss=self.own_loss,
            begin=lambda k, layer: torch.manual_seed(1000 * update + layer),
            precision=self.precision,
        )

    def looks(self, batch: Batch, update: int) -> Any:
        """More looks at the step's batch, for an optimizer that asks."""
        return self.optimizer.looks(
            [self.model],
            [self.w[0]],
            self.layout,
            batch,
            loss=self.own_loss,
            begin=lambda k: torch.manual_seed(update),  # all looks of a step drop the same units
            precision=self.precision,
            draws=self.random,
            scales=self.a,
        )

    def next_batch(self) -> Batch:
        """The next samples: epoch after epoch in new orders, without a gap between them."""
        while len(self.waiting) < self.batch_size:
            order = torch.randperm(len(self.train), generator=self.random.generator)
            self.waiting = torch.cat([self.waiting, order])
        index, self.waiting = self.waiting.tensor_split([self.batch_size])
        for stage in self.batches:
            if stage.choose is not None:
                hyper = {n: h.cpu() for n, h in (stage.hyper | self.given).items()}
                index = stage.choose(index[None], len(self.train), hyper)[0]
                if stage.score is not None:
                    index = self.ranked(stage)[index]
        x, y = take(self.train, index, self.w)
        return Batch(x[None], y[None])

    def ranked(self, stage: Stage) -> Tensor:
        """The samples' numbers [n], those of the lowest score first."""
        if "ranks" not in stage.state:
            stage.state["ranks"] = stage.score(self.train.x, self.train.y).argsort(stable=True)
        return stage.state["ranks"]  # type: ignore[no-any-return]

    def precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def forward(self, x: Tensor) -> Tensor:
        with self.precision():
            output = self.model(x)
        half = output.dtype in (torch.float16, torch.bfloat16)
        return output.float() if half else output  # type: ignore[no-any-return]

    def sample_loss(self, output: Tensor, target: Tensor) -> Tensor:
        output = output.float() if output.dtype == torch.bfloat16 else output
        return self.loss.value(output, target, self.loss_hyper())  # type: ignore[no-any-return]

    def loss_hyper(self) -> dict[str, Tensor]:
        own = {name: value[0, 0] for name, value in self.loss.hyper.items()}
        return own | self.given

    def scheduled(self, update: int, total: int) -> dict[str, Tensor]:
        """The optimizer's hyperparameters at this update."""

        def policy(function: Callable[..., float]) -> Tensor:
            return torch.full_like(self.w[:, :1], function(update, total, **self.schedule.values))

        hyper = dict(self.optimizer.hyper)
        hyper["factor"] = policy(self.schedule.factor)
        if "lr" in hyper:
            hyper["lr"] = hyper["lr"] * hyper["factor"]
        if self.schedule.momentum is not None:
            hyper |= {n: policy(self.schedule.momentum) for n in ("momentum", "b1") if n in hyper}
        return hyper

    def finish(self) -> None:
        """Put the weights to keep into the model: an average's, where the recipe takes one."""
        with torch.no_grad():
            kept = self.averaging.evaluated(self.w, self.averaging.state, self.averaging.hyper)
            if kept is self.w and self.optimizer.evaluated is not None:
                v = self.w if self.a is None else self.w / self.a
                kept = self.optimizer.evaluated(v, self.optimizer.state, self.optimizer.hyper)
                kept = kept if self.a is None else kept * self.a
            if kept is not self.w:
                self.w.copy_(kept)
                self.recalibrate()
            elif self.optimizer.samples is not None:
                at = self.optimizer
                v = self.w if self.a is None else self.w / self.a
                found = at.samples(v, at.state, at.hyper)[0]
                self.ensemble = found if self.a is None else found * self.a
        self.model.eval()

    def recalibrate(self) -> None:
        """Batch norm's statistics belong to other weights now: measure them anew."""
        norms: list[Any] = [
            m for m in self.model.modules() if getattr(m, "track_running_stats", False)
        ]
        momenta = [norm.momentum for norm in norms]
        self.model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches below
            norm.train()
        count = min(len(self.train), RECALIBRATED)
        index = torch.arange(count) * len(self.train) // count
        for part in index.split(CHUNK) if norms else ():
            if len(part) > 1:
                self.model(take(self.train, part, self.w)[0])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def predict(self, split: Split) -> tuple[Tensor, Tensor]:
        """The outputs and the targets of a whole split; after `finish`.

        Of an ensemble the mean of its networks' outputs, or of their probabilities, as logarithms.
        """
        if self.ensemble is None:
            return self.predict_one(split)
        total: Tensor | None = None
        for w in self.ensemble:
            self.w.copy_(w)
            self.recalibrate()
            self.model.eval()
            outputs, targets = self.predict_one(split)
            part = outputs if targets.is_floating_point() else outputs.softmax(-1)
            total = part if total is None else total + part
        assert total is not None
        mean = total / len(self.ensemble)
        return mean if targets.is_floating_point() else mean.clamp_min(1e-30).log(), targets

    def predict_one(self, split: Split) -> tuple[Tensor, Tensor]:
        """The outputs of the model as it stands, and the targets."""
        outputs, targets = [], []
        with torch.no_grad():
            for index in torch.arange(len(split)).split(CHUNK):
                x, y = take(split, index, self.w)
                outputs.append(self.forward(x))
                targets.append(y)
        return torch.cat(outputs), torch.cat(targets)


class Patience:
    """Ends a training after so many evaluations in a row without a gain; has its best weights."""

    def __init__(self, trainer: Trainer, evaluations: int, *, maximize: bool) -> None:
        self.trainer, self.evaluations, self.sign = trainer, evaluations, 1 if maximize else -1
        self.best, self.vain = -math.inf, 0
        self.state: dict[str, Tensor] = {}

    def over(self, value: Callable[[], float]) -> bool:
        """Whether to end; `value` judges the weights to keep, an average's where there is one."""
        model = self.trainer.model
        before = {n: x.clone() for n, x in model.state_dict().items()}
        self.trainer.finish()
        now = self.sign * value()
        gained = not self.state or now - self.best > 1e-4 * abs(self.best)
        self.vain = 0 if gained else self.vain + 1
        if not self.state or now > self.best:
            self.best, self.state = now, {n: x.clone() for n, x in model.state_dict().items()}
        model.load_state_dict(before)
        return self.vain >= self.evaluations

    def finish(self) -> None:
        """Put the best weights into the model."""
        self.trainer.model.load_state_dict(self.state)
        self.trainer.model.eval()


def change(
    trainer: Trainer, values: Mapping[str, Mapping[str, float]], model: nn.Module | None = None
) -> None:
    """Let other values take over: {"optimizer": {"lr": 0.01}, "batch.1": {"alpha": 0.3}}.

    `model`: the same network with other rates of dropout; it goes on with the weights.
    """
    for place, numbers in values.items():
        key, _, number = place.partition(".")
        at: Any = getattr(trainer, key + ("es" if key == "batch" else "s") if number else key)
        stage = at[int(number)] if number else at
        stage.values = {**stage.values, **numbers}
        for name in numbers.keys() & stage.hyper.keys():  # a schedule reads its values as they are
            stage.hyper[name].fill_(numbers[name])
    if model is None:
        return
    model = model.to(trainer.w)
    model.load_state_dict(trainer.model.state_dict())
    parameters = dict(model.named_parameters())
    for slot in trainer.layout.slots:
        parameters[slot.name].data = trainer.layout.view(trainer.w, slot)[0]
        parameters[slot.name].grad = trainer.layout.view(trainer.g, slot)[0]
    trainer.model = model


def take(split: Split, index: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Samples `index` [b] of a split, beside the weights and as exact: x [b, ...], y [b, ...]."""
    if split.x is not None and split.y is not None:
        return beside(split.x[index], w), beside(split.y[index], w)
    assert split.dataset is not None
    pairs = [split.dataset[i] for i in index.tolist()]
    x = torch.stack([torch.as_tensor(a) for a, _ in pairs])
    y = torch.stack([torch.as_tensor(b) for _, b in pairs])
    return beside(x, w), beside(y, w)


def beside(x: Tensor, w: Tensor) -> Tensor:
    return x.to(w if x.is_floating_point() else w.device)
