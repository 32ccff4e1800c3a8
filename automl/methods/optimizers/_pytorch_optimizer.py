"""Any optimizer of the pytorch-optimizer package, by name: optimizer = "pytorch_optimizer:ADOPT".

The package's class makes the step; this file carries its state, wherever it keeps it (tensors,
numbers, lists of both), to the flat tensors of a checkpoint and back. That costs copies, and a
member's step is made alone: it serves what has no file of its own here. Searched are lr, around
the class's default, and wd where the class has a weight decay; everything else stays at its
default. Matrices (ndim >= 2) are decayed, vectors not. Classes that need more than a gradient
(a closure, a second backward pass) are refused by name.
Source: github.com/kozistr/pytorch_optimizer, Apache-2.0; each class names its own paper.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import torch
from pytorch_optimizer import load_optimizer
from torch import Tensor

from automl.methods.stages import Hyper, Layout, State


def pytorch_optimizer_functions(name: str) -> dict[str, Any]:
    """What an optimizer's stage consists of, for the package's optimizer `name`."""
    layouts: dict[int, Layout] = {}  # by their size: evaluation is not told
    # Objects to work with; what a member's has in it is set from its state before each use.
    benches: dict[Hashable, Any] = {}

    def bench(w: Tensor, k: int, layout: Layout, *, new: bool = False) -> Any:
        key = (k, layout, w.dtype, w.device)
        if new or key not in benches:
            if len(benches) >= 64:
                benches.clear()
            benches[key] = _pytorch_optimizer_made(name, w[k], layout)
            if not new:  # a first step makes the places of its state
                _pytorch_optimizer_move(benches[key], torch.full_like(w[k], 1e-3), layout)
        return benches[key]

    def init(w: Tensor, layout: Layout) -> State:
        layouts[layout.size] = layout
        with torch.random.fork_rng():
            rows = [_pytorch_optimizer_state(bench(w, k, layout), w.device) for k in range(len(w))]
        return {n: torch.stack([torch.zeros_like(row[n]) for row in rows]) for n in rows[0]}

    def step(w: Tensor, g: Tensor, state: State, hyper: Hyper, t: Tensor, layout: Layout) -> None:
        for k in range(len(w)):
            first = bool(t[k] == 1)
            optimizer = bench(w, k, layout, new=first)
            if not first:
                _pytorch_optimizer_load(optimizer, {n: x[k] for n, x in state.items()})
                _pytorch_optimizer_put(optimizer, w[k], layout)
            for group in optimizer.param_groups:
                group["lr"] = float(hyper["lr"][k])
                if "wd" in hyper:
                    group["weight_decay"] = float(hyper["wd"][k]) * (group["params"][0].ndim >= 2)
            _pytorch_optimizer_move(optimizer, g[k], layout)
            w[k] = _pytorch_optimizer_row(optimizer)
            for n, x in _pytorch_optimizer_state(optimizer, w.device).items():
                state[n][k] = x

    def evaluated(w: Tensor, state: State, hyper: Hyper) -> Tensor:
        found, layout = w.clone(), layouts[w.shape[1]]
        for k in range(len(w)):
            if state["numbers"][k].any():  # zeros before the first step
                optimizer = bench(w, k, layout)
                _pytorch_optimizer_load(optimizer, {n: x[k] for n, x in state.items()})
                _pytorch_optimizer_put(optimizer, w[k], layout)
                optimizer.eval()
                found[k] = _pytorch_optimizer_row(optimizer)
                optimizer.train()
        return found

    averages = hasattr(load_optimizer(name), "eval")
    return {
        "init": init,
        "step": step,
        "evaluated": evaluated if averages else None,
        "samples": None,
        "draw": None,
        "looks": None,
    }


def _pytorch_optimizer_made(name: str, row: Tensor, layout: Layout) -> Any:
    """A new object over parameters in two groups: matrices, vectors; in the layout's order."""
    parts = [torch.nn.Parameter(layout.view(row[None], slot)[0].clone()) for slot in layout.slots]
    make: Any = load_optimizer(name)
    groups: list[dict[str, Any]] = []
    for matrices in (True, False):
        chosen = [p for p in parts if (p.ndim >= 2) == matrices]
        if chosen:
            groups.append({"params": chosen})
    try:
        return make(groups)
    except (KeyError, ValueError):  # of Muon's kind: they want to be told which are matrices
        for group in groups:
            group["use_muon"] = group["params"][0].ndim >= 2
        return make(groups)


def _pytorch_optimizer_parts(optimizer: Any) -> list[Tensor]:
    """Its parameters in the layout's order, which has the matrices first as well."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _pytorch_optimizer_put(optimizer: Any, row: Tensor, layout: Layout) -> None:
    for p, slot in zip(_pytorch_optimizer_parts(optimizer), layout.slots, strict=True):
        p.data.copy_(layout.view(row[None], slot)[0])


def _pytorch_optimizer_row(optimizer: Any) -> Tensor:
    parts = _pytorch_optimizer_parts(optimizer)
    return torch.cat([p.detach().reshape(-1) for p in parts])


def _pytorch_optimizer_move(optimizer: Any, g: Tensor, layout: Layout) -> None:
    for p, slot in zip(_pytorch_optimizer_parts(optimizer), layout.slots, strict=True):
        p.grad = layout.view(g[None], slot)[0].clone()
    optimizer.step()


def _pytorch_optimizer_places(optimizer: Any) -> Iterator[tuple[Any, Any]]:
    """Containers and keys of all that may change: tensors and numbers, in a fixed order."""
    own = vars(optimizer)
    yield from ((own, key) for key in sorted(own) if type(own[key]) in (int, float))
    for group in optimizer.param_groups:
        yield from _pytorch_optimizer_leaves(group)
        for p in group["params"]:
            yield from _pytorch_optimizer_leaves(optimizer.state[p])


def _pytorch_optimizer_leaves(box: Any) -> Iterator[tuple[Any, Any]]:
    keys = sorted(set(box) - {"params"}, key=str) if isinstance(box, dict) else range(len(box))
    for key in keys:
        if isinstance(box[key], dict | list):
            yield from _pytorch_optimizer_leaves(box[key])
        elif isinstance(box[key], Tensor) or type(box[key]) in (int, float):
            yield box, key


def _pytorch_optimizer_state(optimizer: Any, device: torch.device) -> dict[str, Tensor]:
    """Its tensors by their number, and all its numbers as one."""
    tensors: list[Tensor] = []
    numbers: list[float] = []
    for box, key in _pytorch_optimizer_places(optimizer):
        if isinstance(box[key], Tensor):
            tensors.append(box[key])
        else:
            numbers.append(box[key])
    named = {str(i): x.detach().to(device) for i, x in enumerate(tensors)}
    return {**named, "numbers": torch.tensor(numbers, dtype=torch.float64, device=device)}


def _pytorch_optimizer_load(optimizer: Any, state: dict[str, Tensor]) -> None:
    """Set what `_pytorch_optimizer_state` told."""
    numbers, count = iter(state["numbers"].tolist()), 0
    for box, key in list(_pytorch_optimizer_places(optimizer)):
        value = box[key]
        if isinstance(value, Tensor):
            box[key] = state[str(count)].to(value.device).clone()
            count += 1
        else:
            box[key] = type(value)(next(numbers))
