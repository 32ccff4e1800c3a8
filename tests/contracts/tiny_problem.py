"""A classification small enough for thousands of steps a second, and a loop that trains it.

256 points of 16 features in 4 classes, a network 16-32-32-4 with ReLU, full batch, cross-entropy.
Everything carries the leading axis k of members. The golden values belong to this problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from automl.methods.stages import (
    Averaging,
    Batch,
    Draws,
    Gradient,
    Hyper,
    Layout,
    Optimizer,
    Slot,
    State,
    Transform,
    hyper_tensors,
)
from automl.registry import Method, family
from automl.train.chain import BatchChain
from automl.train.looks import BatchLooks
from automl.train.seeding import KeyedDraws

HORIZON = 40
BASELINE = {"gradient": "plain", "transform": "none", "optimizer": "sgd", "averaging": "none"}

LAYOUT = Layout(
    slots=(
        Slot("0.weight", (32, 16), 0, "matrix"),
        Slot("2.weight", (32, 32), 512, "matrix"),
        Slot("4.weight", (4, 32), 1536, "output"),
        Slot("0.bias", (32,), 1664, "vector"),
        Slot("2.bias", (32,), 1696, "vector"),
        Slot("4.bias", (4,), 1728, "vector"),
    ),
    size=1732,
    decayed=1664,
)


@cache
def data(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x [256, 16], y [256]."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, 16, generator=generator)
    teacher = torch.randn(16, 4, generator=generator)
    noise = 0.05 * torch.randn(256, 4, generator=generator)
    return x.to(dtype), (torch.tanh(x @ teacher) + noise).argmax(1)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
        )


def weights(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """The network's first weights as one row [1, p] of LAYOUT."""
    named = dict(network(seed).named_parameters())
    return torch.cat([named[s.name].detach().reshape(1, -1) for s in LAYOUT.slots], 1).to(dtype)


def losses(w: Tensor) -> Tensor:
    """Loss [k] at the weights w [k, p]."""
    x, y = data(w.dtype)
    k, part = len(w), {s.name: LAYOUT.view(w, s) for s in LAYOUT.slots}
    h = x.expand(k, -1, -1)
    for layer in ("0", "2", "4"):
        h = torch.baddbmm(part[f"{layer}.bias"].unsqueeze(1), h, part[f"{layer}.weight"].mT)
        h = h.relu() if layer != "4" else h
    each = cross_entropy(h.flatten(0, 1), y.repeat(k), reduction="none")
    return each.view(k, -1).mean(1)


class OwnDraws:
    """The trainer's random numbers of k members that may stand at different steps."""

    def __init__(self, seeds: Sequence[int], steps: Sequence[int]) -> None:
        pairs = zip(seeds, steps, strict=True)
        self._each = [KeyedDraws([seed]).at(step) for seed, step in pairs]

    def uniform(self, *shape: int) -> Tensor:
        return torch.cat([d.uniform(*shape) for d in self._each])

    def normal(self, *shape: int) -> Tensor:
        return torch.cat([d.normal(*shape) for d in self._each])

    def beta(self, alpha: Tensor) -> Tensor:
        rows = zip(self._each, alpha.split(1), strict=True)
        return torch.cat([d.beta(row) for d, row in rows])

    def permutation(self, n: int) -> Tensor:
        return torch.cat([d.permutation(n) for d in self._each])


@dataclass
class Run:
    """k members in training; `hyper` holds each member's values, of all stages together."""

    w: Tensor
    hyper: Sequence[Mapping[str, float]]
    stages: Mapping[str, str] = field(default_factory=dict)
    layout: Layout = LAYOUT
    seeds: Sequence[int] = (0,)
    t: Tensor = field(init=False)
    states: dict[str, State] = field(init=False)

    def __post_init__(self) -> None:
        self.t = torch.zeros_like(self.w[:, :1])
        self.states = {key: self._method(key).init(self.w, self.layout) for key in BASELINE}  # type: ignore[attr-defined]

    def step(self) -> Tensor:
        """One step of all stages; loss [k] before it."""
        gradient, transform = self._method("gradient"), self._method("transform")
        optimizer, averaging = self._method("optimizer"), self._method("averaging")
        assert isinstance(gradient, Gradient)
        assert isinstance(transform, Transform)
        assert isinstance(optimizer, Optimizer)
        assert isinstance(averaging, Averaging)
        hyper, states, w = self._tensors(), self.states, self.w
        self.t += 1
        asked = [self._closure, w, states["gradient"], hyper, self.t]
        loss, g = gradient.compute(*asked, *([self.chain()] if gradient.chain else []))
        draws = OwnDraws(self.seeds, [int(t) for t in self.t])
        transform.apply(g, w, states["transform"], hyper, self.t, self.layout, draws)
        drawn = optimizer.draw(self.layout, draws) if optimizer.draw else {}
        given = [w, g, states["optimizer"], {**hyper, **drawn}, self.t, self.layout]
        if optimizer.looks:
            given.append(self.looks(draws))
        optimizer.step(*given)
        horizon = torch.full_like(self.t, HORIZON)
        averaging.update(w, states["averaging"], hyper, self.t, horizon)
        return loss

    def steps(self, n: int) -> Tensor:
        """Losses [n, k], each before its step."""
        return torch.stack([self.step() for _ in range(n)])

    def chain(self) -> BatchChain:
        """The trainer's own, over networks whose weights are the rows of w."""
        x, y = data(self.w.dtype)
        k = len(self.w)
        return BatchChain(
            self._modules(),
            self.layout,
            Batch(x.expand(k, -1, -1), y.expand(k, -1)),
            loss=lambda k, output, y, y2, weight: cross_entropy(output, y),
            begin=lambda k, layer: None,
            precision=nullcontext,
        )

    def _modules(self) -> list[nn.Sequential]:
        modules = [network().to(self.w.dtype) for _ in self.w]
        for module, row in zip(modules, self.w, strict=True):
            named = dict(module.named_parameters())
            for slot in self.layout.slots:
                named[slot.name].data = self.layout.view(row[None], slot)[0]
        return modules

    def looks(self, draws: Draws) -> BatchLooks:
        """The trainer's own, over networks whose weights are the rows of w."""
        x, y = data(self.w.dtype)
        modules = self._modules()
        k = len(modules)
        return BatchLooks(
            modules,
            list(self.w),
            self.layout,
            Batch(x.expand(k, -1, -1), y.expand(k, -1)),
            loss=lambda k, output, y, y2, weight: cross_entropy(output, y),
            begin=lambda k: None,
            precision=nullcontext,
            draws=draws,
        )

    def evaluated(self) -> Tensor:
        """The weights to keep [k, p]."""
        w, hyper = self.w, self._tensors()
        optimizer, averaging = self._method("optimizer"), self._method("averaging")
        assert isinstance(optimizer, Optimizer)
        assert isinstance(averaging, Averaging)
        if optimizer.evaluated is not None:
            w = optimizer.evaluated(w, self.states["optimizer"], hyper)
        return averaging.evaluated(w, self.states["averaging"], hyper)

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds, by name."""
        states = {f"{key}.{n}": x for key, s in self.states.items() for n, x in s.items()}
        return {"w": self.w, "t": self.t, **states}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, own in self.tensors().items():
            own.copy_(tensors[name])

    def _closure(self, statistics: bool = True) -> tuple[Tensor, Tensor]:
        w = self.w.detach().requires_grad_()
        with torch.enable_grad():
            loss = losses(w)
            (g,) = torch.autograd.grad(loss.sum(), w)
        return loss.detach(), g

    def _method(self, key: str) -> Method:
        return family(key).get(self.stages.get(key, BASELINE[key]))

    def _tensors(self) -> Hyper:
        return hyper_tensors([{"factor": 1.0, **m} for m in self.hyper], dtype=self.w.dtype)


def packed(runs: Sequence[Run]) -> Run:
    """The runs, each of one member, as members of one pack, where they stand."""
    hyper, seeds = [h for r in runs for h in r.hyper], [s for r in runs for s in r.seeds]
    pack = Run(torch.cat([r.w for r in runs]), hyper, runs[0].stages, seeds=seeds)
    parts = [r.tensors() for r in runs]
    pack.load({name: torch.cat([p[name] for p in parts]) for name in parts[0]})
    return pack


def values_at(
    stages: Mapping[str, str], unit: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Hyperparameters of all stages by their plain names: defaults, or places in [0, 1]."""
    values: dict[str, float] = {}
    for key, name in {**BASELINE, **stages}.items():
        for n, r in family(key).get(name).ranges.items():
            value = r.default if unit is None else r.decode(unit[n])
            assert isinstance(value, int | float)
            values[n] = value
    return values
