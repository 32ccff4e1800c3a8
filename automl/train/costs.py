"""What a recipe's network costs to keep, to run and to train: the measures of `automl.aims`.

    params    weights that are trained, of all networks of an ensemble
    size      bytes of the weights that are kept, buffers included
    memory    bytes of all that a checkpoint of the training holds, plus the gradients, plus what
              the forward pass of one batch keeps for the backward one, each storage once; in
              evaluation mode, so without dropout's masks                                     MiB
    latency   median of `_PASSES` forward passes of one sample, one thread, after `_WARM`     ms

All but the latency are counts: the same for a recipe wherever and whenever it is trained.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from automl.aims import COST
from automl.tasks.task import Split
from automl.train.measure import Judged
from automl.train.step import Program

_WARM, _PASSES = 3, 15
_ENOUGH_SECONDS = 1.0  # of passes: a large network has fewer than `_PASSES`


def costs(program: Program, judged: Judged, k: int, wanted: Collection[str]) -> dict[str, float]:
    """The measures `wanted` of member k, by their names in curves; while it is judged."""
    packed = program.packed
    found: dict[str, float] = {}
    if "params" in wanted:
        samples = program.samples(k)
        found["params"] = packed.layout.size * (1 if samples is None else len(samples))
    if "size" in wanted:
        found["size"] = sum(map(_bytes, judged.state(k).values()))
    if "memory" in wanted:
        kept = sum(map(_bytes, program.state(k).values())) + _bytes(packed.g[k])
        found["memory"] = (kept + _activations(program, k)) / 2**20
    if "latency" in wanted:
        found["latency"] = _latency(program, k)
    return {COST + name: float(value) for name, value in found.items()}


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


def _sample(split: Split, program: Program) -> Tensor:
    """The first sample as a batch of one, where the program computes."""
    x = split.x[:1] if split.x is not None else torch.as_tensor(split.dataset[0][0])[None]  # type: ignore[index]
    x = x.to(program.device)
    return x.to(program.dtype) if x.is_floating_point() else x


def _activations(program: Program, k: int) -> int:
    """Bytes that one part of a batch leaves behind for its backward pass, beside the model."""
    module, one = program.packed.modules[k], _sample(program.task.train, program)
    x = one.expand(program.part_size(k), *one.shape[1:]).contiguous()
    # Of all members of a pack at once, and counted with the checkpoint.
    kept = {t.untyped_storage().data_ptr() for t in (program.packed.w, *program.packed.buffers)}
    seen: dict[int, int] = {}
    alive: list[object] = []  # a freed storage's place could be taken by another

    def keep(t: Tensor) -> Tensor:
        alive.append(t)
        storage = t.untyped_storage()
        if storage.data_ptr() not in kept:
            seen[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.enable_grad(), saved_tensors_hooks(keep, _same), program.precision():
        alive.append(module(x))
    return sum(seen.values())


def _same(t: Tensor) -> Tensor:
    return t


@torch.no_grad()
def _latency(program: Program, k: int) -> float:
    module, x = program.packed.modules[k], _sample(program.task.valid, program)
    cuda, threads = program.device.type == "cuda", torch.get_num_threads()
    times: list[float] = []
    torch.set_num_threads(1)
    try:
        for i in range(_WARM + _PASSES):
            began = time.perf_counter()
            with program.precision():
                module(x)
            if cuda:
                torch.cuda.synchronize(program.device)
            if i >= _WARM:
                times.append(time.perf_counter() - began)
            if sum(times) > _ENOUGH_SECONDS:
                break
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(times)
