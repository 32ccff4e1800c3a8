"""What a step of each optimizer costs: CPU time and memory of its state, one member, one thread.

    .venv/bin/python benchmarks/optimizer_steps.py [NAME ...]

Beside each of ours stand torch's AdamW (foreach), torch's class of the same name and that of
pytorch-optimizer, where they have one, on the parameters of a small residual network and of a small
transformer. All take turns in short blocks, round after round, so that a busy machine slows all of
them; a ratio is the median of the rounds' ratios. Gradients are there already: ours is given its
flat row, the others their list of tensors. State is in units of the parameters' memory. Optimizers
that look at the loss again within a step are left out: their cost is that of the model.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import inspect
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytorch_optimizer
import torch
from torch import Tensor, nn

from automl.methods.stages import Layout, Optimizer, Shape, hyper_tensors
from automl.registry import family
from automl.train.packed import layout_of
from automl.train.seeding import KeyedDraws

ROUNDS, BLOCK_SECONDS = 9, 0.03
MODELS: dict[str, tuple[str, Shape, dict[str, int]]] = {
    "resnet": ("resnet", Shape("image", (3, 32, 32), 10, "classes"), {"width": 16, "depth": 3}),
    "transformer": (
        "transformer",
        Shape("tokens", (64,), 65, "tokens", 65),
        {"width": 128, "depth": 4},
    ),
}
_WORK = ("wd", "momentum", "nesterov")
Step = Callable[[], None]
Made = tuple[Step, Callable[[], float]]  # one step; state in units of the parameters


@dataclass
class Row:
    """Figures of one optimizer on one model; nan where a library has no such class."""

    milliseconds: float
    state: float
    adamw: float  # ours / torch's AdamW
    torchs: float  # ours / torch's class of the same name
    theirs: float  # ours / pytorch-optimizer's
    theirs_state: float


def parameters_of(model: str) -> tuple[Layout, list[nn.Parameter]]:
    name, shape, given = MODELS[model]
    method: Any = family("architecture").get(name)
    torch.manual_seed(0)
    network = method.network(shape, given)
    layout, named = layout_of(network), dict(network.named_parameters())
    parameters = [named[slot.name] for slot in layout.slots]
    for p in parameters:
        p.grad = 1e-2 * torch.randn_like(p)
    return layout, parameters


def ours(name: str, layout: Layout, parameters: list[nn.Parameter]) -> Made:
    method = family("optimizer").get(name)
    assert isinstance(method, Optimizer)
    w = torch.cat([p.detach().reshape(1, -1) for p in parameters], 1)
    gradient = torch.cat([cast(Tensor, p.grad).reshape(1, -1) for p in parameters], 1)
    g, state, t = gradient.clone(), method.init(w, layout), torch.zeros(1, 1)
    values = {n: r.default for n, r in method.ranges.items()} | {"factor": 1.0}
    hyper, draws = hyper_tensors([values]), KeyedDraws([0])

    def step() -> None:
        g.copy_(gradient)  # a step may spend it; backward makes it anew
        clock.start()
        t.add_(1)
        drawn = method.draw(layout, draws.at(int(t))) if method.draw else {}
        method.step(w, g, state, {**hyper, **drawn}, t, layout)
        clock.stop()

    return step, lambda: sum(x.numel() for x in state.values()) / layout.size


def library(make: Callable[[], torch.optim.Optimizer], size: int) -> Made:
    optimizer = make()

    def step() -> None:
        clock.start()
        optimizer.step()
        clock.stop()

    return step, lambda: sum(x.numel() for x in _tensors(optimizer.state)) / size


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _tensors(part)


def named(module: Any, name: str) -> Any:
    """The optimizer of this name in torch.optim or pytorch_optimizer, spelled in any way."""
    wanted = name.replace("_", "")
    for spelled, found in vars(module).items():
        own = inspect.isclass(found) and found.__module__.startswith(module.__name__)
        if own and spelled.lower() == wanted and issubclass(found, torch.optim.Optimizer):
            return found
    return None


def others(
    name: str, layout: Layout, parameters: list[nn.Parameter]
) -> tuple[Made | None, Made | None]:
    """The libraries' own: foreach with torch, with pytorch-optimizer what it takes by default."""
    pairs = list(zip(parameters, layout.slots, strict=True))
    hidden = [p for p, s in pairs if s.role == "matrix"]
    rest = [p for p, _ in pairs if all(p is not h for h in hidden)]

    # What takes time must be the same: decay and momentum as with us.
    values = {n: r.default for n, r in family("optimizer").get(name).ranges.items()}
    same: dict[str, object] = {"lr": 1e-3, "foreach": True}
    same |= {"weight_decay" if n == "wd" else n: v for n, v in values.items() if n in _WORK}

    def given(found: Any, **more: object) -> dict[str, object]:
        taken = inspect.signature(found).parameters
        return {n: v for n, v in {**same, **more}.items() if n in taken}

    def torchs() -> torch.optim.Optimizer:
        found = named(torch.optim, name)
        return cast(torch.optim.Optimizer, found(parameters, **given(found)))

    def theirs() -> torch.optim.Optimizer:
        found = named(pytorch_optimizer, name)
        if name == "muon":
            sides = [(hidden, True), (rest, False)]
            return cast(
                torch.optim.Optimizer, found([{"params": p, "use_muon": u} for p, u in sides])
            )
        made = found(parameters, **given(found, foreach=None))
        getattr(made, "train", lambda: None)()
        return cast(torch.optim.Optimizer, made)

    # Torch's Muon takes no kernels, vectors or embeddings: nothing to set beside ours.
    in_torch = named(torch.optim, name) is not None and name != "muon"
    in_theirs = named(pytorch_optimizer, name) is not None
    return (
        library(torchs, layout.size) if in_torch else None,
        library(theirs, layout.size) if in_theirs else None,
    )


class Clock:
    """CPU time between start and stop, summed."""

    def __init__(self) -> None:
        self.total, self._began = 0.0, 0.0

    def start(self) -> None:
        self._began = time.process_time()

    def stop(self) -> None:
        self.total += time.process_time() - self._began

    def block(self, step: Step, count: int) -> float:
        """Milliseconds a step, the mean of so many."""
        self.total = 0.0
        for _ in range(count):
            step()
        return self.total / count * 1000


clock = Clock()


def measured(name: str, model: str) -> Row:
    layout, parameters = parameters_of(model)
    adamw = library(lambda: torch.optim.AdamW(parameters, foreach=True), layout.size)
    torchs, theirs = others(name, layout, parameters)
    own = ours(name, layout, parameters)
    walks = [own, adamw, torchs, theirs]
    counts = []
    for walk in walks:
        if walk is not None:
            clock.block(walk[0], 3)
            counts.append(max(1, int(BLOCK_SECONDS * 1000 / clock.block(walk[0], 2))))
        else:
            counts.append(0)
    rounds = [
        [clock.block(w[0], n) if w else math.nan for w, n in zip(walks, counts, strict=True)]
        for _ in range(ROUNDS)
    ]
    over_adamw, over_torch, over_theirs = (
        statistics.median(r[0] / r[i] for r in rounds) for i in (1, 2, 3)
    )
    return Row(
        milliseconds=statistics.median(r[0] for r in rounds),
        state=own[1](),
        adamw=over_adamw,
        torchs=over_torch,
        theirs=over_theirs,
        theirs_state=theirs[1]() if theirs else math.nan,
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    every = family("optimizer").names()
    names = sys.argv[1:] or [
        n for n in every if not cast(Optimizer, family("optimizer").get(n)).looks
    ]
    ahead, both = 0, 0
    for model in MODELS:
        layout, parameters = parameters_of(model)
        print(f"\n{model}: {layout.size:,} parameters in {len(parameters)} tensors")
        print(
            f"{'':22}{'ms':>8} {'/AdamW':>8} {'/torch':>8} {'/p.-opt.':>8}"
            f" {'state':>7} {'p.-opt.':>8}"
        )
        for name in names:
            row = measured(name, model)
            both += not math.isnan(row.theirs)
            ahead += row.theirs < 1
            figures = [row.adamw, row.torchs, row.theirs]
            texts = [f"{x:8.2f}" if not math.isnan(x) else f"{'-':>8}" for x in figures]
            state = f"{row.theirs_state:8.2f}" if not math.isnan(row.theirs) else ""
            print(f"{name:22}{row.milliseconds:8.3f} {' '.join(texts)} {row.state:7.2f} {state}")
    print(f"\nahead of pytorch-optimizer in {ahead} of {both}")


if __name__ == "__main__":
    main()
