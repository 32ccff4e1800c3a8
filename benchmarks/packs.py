"""Packs beside the loops that they replace: CPU time a member and update, one thread.

    .venv/bin/python benchmarks/packs.py [CASE ...] [--sizes 1,2,4,8] [--rounds 5] [--json FILE]

Baselines, each training K models one after the other in this process on the same batches:

    plain      torch's model and AdamW as torch makes it, cosine schedule
    fused      the same with AdamW(fused=True), the fairer one
    loop       our own loop, K = 1: what --pack off runs
    cores      `fused` in one process a core, all at once, each with its share of the models
    step       one model's whole step under torch.compile: forward, backward and AdamW

A pack is what --pack K runs: augmentation, schedule, optimizer and reading the losses included;
`compiled` is the same pack as machine code, which auto chooses where it pays. The ratios are the
baselines' times by the pack's, "x compiled" the pack's by the compiled one's. Rounds of all take
turns, so that a busy machine slows all of them; a ratio is the median of the rounds' ratios.
Members have their own lr, decay and seed. Peak memory is the process's, measured anew for each
size. `auto` is what the probe of a study chooses. With --device cuda times are of the clock, and
`cores` and what is compiled are left out.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F

from automl.methods.stages import Architecture, Shape
from automl.recipe import Recipe
from automl.records import TaskCard
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split
from automl.train.compiled import own_folder
from automl.train.probing import forget_peak, peak_mib, probe
from automl.train.step import EngineName, Program

SAMPLES = 2048
# The allocator as workers have it; it reads its environment when a process starts.
_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184",
         "MALLOC_TOP_PAD_": "67108864"}  # fmt: skip
Walk = Callable[[int], None]  # make so many updates of all members


@dataclass(frozen=True)
class Case:
    about: str
    architecture: str
    shape: Shape
    batch: int
    values: dict[str, Value]


CASES = {
    "mlp-table": Case(
        "MLP 30-128-128-2, batch 64", "mlp", Shape("vector", (30,), 2, "classes"), 64, {}
    ),
    "mlp-digits": Case(
        "MLP 64-128-128-10, batch 64", "mlp", Shape("image", (1, 8, 8), 10, "classes"), 64, {}
    ),
    "convnet": Case(
        "convnet 1-16-32 at 8x8, no norm, batch 64",
        "convnet",
        Shape("image", (1, 8, 8), 10, "classes"),
        64,
        {"norm": "none", "depth": 2},
    ),
    "convnet-bn": Case(
        "convnet 1-16-32-64 at 8x8, batch norm, batch 64",
        "convnet",
        Shape("image", (1, 8, 8), 10, "classes"),
        64,
        {"norm": "batch"},
    ),
    "resnet": Case(
        "ResNet 16-32-64 at 8x8, batch norm, batch 64",
        "resnet",
        Shape("image", (1, 8, 8), 10, "classes"),
        64,
        {},
    ),
    "transformer": Case(
        "transformer 2x64, 32 tokens, batch 16",
        "transformer",
        Shape("tokens", (32,), 64, "tokens", vocabulary=64),
        16,
        {},
    ),
}


def task_of(case: Case, device: str = "cpu") -> ModelTask:
    shape, draws = case.shape, torch.Generator().manual_seed(0)
    if shape.kind == "tokens":
        text = torch.randint(shape.vocabulary, (SAMPLES, shape.features[0] + 1), generator=draws)
        split = Split(text[:, :-1].contiguous(), text[:, 1:].contiguous())
    else:
        x = torch.randn(SAMPLES, *shape.features, generator=draws)
        split = Split(x, torch.randint(shape.outputs, (SAMPLES,), generator=draws))
    card = TaskCard("bench", shape.kind, "accuracy", "maximize", [], 10**6, 100, case.batch)
    card = replace(card, device=device)

    def build(recipe: Recipe) -> nn.Module:
        method = family("architecture").get(case.architecture)
        assert isinstance(method, Architecture)
        return method.network(shape, case.values)

    return ModelTask(card, shape, split, split, None, build, None, lambda outputs, targets: {})


def recipes(k: int) -> list[Recipe]:
    return [
        Recipe(
            {"optimizer": "adamw", "optimizer.adamw.lr": 1e-3 * 0.97**i, "schedule": "cosine",
             "optimizer.adamw.wd": 1e-2 * 0.97**i},
            steps=10**6, seed=i,
        )
        for i in range(k)
    ]  # fmt: skip


def packed(task: ModelTask, k: int, engine: EngineName = "traced") -> Walk:
    program = Program(task, recipes(k), engine=engine if k > 1 else "loop")

    def walk(updates: int) -> None:
        program.begin(program.updates + updates)
        for _ in range(updates):
            program.step().tolist()  # as a segment does, to see a divergence

    return walk


def looped(task: ModelTask, k: int) -> Walk:
    walks = [packed(task, 1) for _ in range(k)]

    def walk(updates: int) -> None:
        for one in walks:
            one(updates)

    return walk


def plain(task: ModelTask, k: int, *, fused: bool) -> Walk:
    x, y = _data(task)
    walks = []
    for recipe in recipes(k):
        torch.manual_seed(recipe.seed)
        model = task.build(recipe).to(x.device).train()
        walks.append(_plain_one(model, x, y, task.card.batch_size, fused))

    def walk(updates: int) -> None:
        for one in walks:
            one(updates)

    return walk


def _plain_one(model: nn.Module, x: Tensor, y: Tensor, batch: int, fused: bool) -> Walk:
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, 10**6)

    def walk(updates: int) -> None:
        order = torch.randperm(len(x))
        for update in range(updates):
            first = update * batch % (len(x) - batch)
            rows = order[first : first + batch]
            output = model(x[rows])
            loss = F.cross_entropy(output.flatten(0, -2), y[rows].flatten())
            adamw.zero_grad()
            loss.backward()
            adamw.step()
            schedule.step()
            loss.item()  # every loop that reports its loss reads it

    return walk


def _data(task: ModelTask) -> tuple[Tensor, Tensor]:
    x, y = task.train.x, task.train.y
    assert x is not None and y is not None
    return x.to(task.card.device), y.to(task.card.device)


def _state(model: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor], dict[str, Tensor]]:
    """Weights, first and second moments, buffers."""
    w = [p.detach().clone() for p in model.parameters()]
    m, v = ([torch.zeros_like(p) for p in w] for _ in range(2))
    return w, m, v, dict(model.named_buffers())


def _in_turn(one: Walk, k: int) -> Walk:
    def walk(updates: int) -> None:
        for _ in range(k):
            one(updates)

    return walk


def compiled_step(task: ModelTask, k: int) -> Walk:
    """The whole step of one model, compiled once, for one model after the other."""
    x, y = _data(task)
    models = [task.build(recipe).train() for recipe in recipes(k)]
    states = [_state(model) for model in models]
    names, model = [n for n, _ in models[0].named_parameters()], models[0]

    def step(
        w: list[Tensor], m: list[Tensor], v: list[Tensor], rest: dict[str, Tensor],
        at: Tensor, lr: Tensor, x: Tensor, y: Tensor,
    ) -> Tensor:  # fmt: skip
        def loss_of(w: list[Tensor], rest: dict[str, Tensor]) -> Tensor:
            output = functional_call(model, dict(zip(names, w, strict=True)) | rest, (x,))
            return F.cross_entropy(output.flatten(0, -2), y.flatten())

        loss: Tensor
        grads, loss = grad_and_value(loss_of)(w, rest)
        for one, g, m_, v_ in zip(w, grads, m, v, strict=True):
            m_.lerp_(g, 0.1)
            v_.lerp_(g * g, 0.001)
            one.mul_(1 - lr * 0.01)
            one.sub_(lr * (m_ / (1 - 0.9**at)) / ((v_ / (1 - 0.999**at)).sqrt() + 1e-8))
        return loss

    run, batch = torch.compile(step, dynamic=False, fullgraph=True), task.card.batch_size

    @torch.no_grad()
    def walk(updates: int) -> None:
        for w, m, v, rest in states:
            order = torch.randperm(len(x))
            for update in range(updates):
                first = update * batch % (len(x) - batch)
                rows = order[first : first + batch]
                at, lr = torch.tensor(float(update + 1)), torch.tensor(1e-3)
                run(w, m, v, rest, at, lr, x[rows], y[rows]).item()

    return walk


def _one_core(name: str, k: int, updates: int) -> float:
    """CPU seconds of the fused loop in a process of its own, its start left out."""
    torch.set_num_threads(1)
    walk = plain(task_of(CASES[name]), k, fused=True)
    walk(2)
    began = time.process_time()
    walk(updates)
    return time.process_time() - began


class Cores:
    """One process a core, warm."""

    def __init__(self) -> None:
        self._cores = len(os.sched_getaffinity(0))
        self._pool = ProcessPoolExecutor(self._cores, multiprocessing.get_context("spawn"))

    def seconds(self, name: str, k: int, updates: int) -> float:
        """CPU seconds of K trainings, shared out."""
        shares = [k // self._cores + (i < k % self._cores) for i in range(self._cores)]
        found = [self._pool.submit(_one_core, name, n, updates) for n in shares if n]
        return sum(f.result() for f in found)

    def close(self) -> None:
        self._pool.shutdown()


def measured(
    walks: dict[str, Walk], updates: int, rounds: int, device: str
) -> dict[str, list[float]]:
    """Seconds of each walk in each round: of the CPU, or of the clock on a GPU."""
    for walk in walks.values():
        walk(3)
    table: dict[str, list[float]] = {name: [] for name in walks}
    for _ in range(rounds):
        for name, walk in walks.items():
            began = _now(device)
            walk(updates)
            table[name].append(_now(device) - began)
    return table


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def case_rows(name: str, sizes: list[int], rounds: int, device: str) -> list[dict[str, object]]:
    """Print the case's table; its rows."""
    case, cpu = CASES[name], device == "cpu"
    task = task_of(case, device)
    found = probe(task, recipes(1)[0], 64)
    chosen = f"{found.size} together ({found.gain:.2f}x)" if found.size > 1 else "alone"
    print(f"\n{name}: {case.about}; auto: {chosen} {found.reason}")
    shown = ["plain", "fused", "loop", *(["cores", "step", "compiled"] if cpu else [])]
    print(f"{'K':>4} {'ms a member':>12} " + " ".join(f"{'x ' + n:>10}" for n in shown)
          + f" {'spread':>14} {'peak MiB':>9}")  # fmt: skip
    cores = Cores() if cpu else None
    step = compiled_step(task, 1) if cpu else None
    rows: list[dict[str, object]] = []
    for k in sizes:
        walks = {"pack": packed(task, k), "plain": plain(task, k, fused=False),
                 "fused": plain(task, k, fused=True), "loop": looped(task, k)}  # fmt: skip
        updates = max(4, int(200 / k))
        if step:
            walks["step"] = _in_turn(step, k)
        if cpu and k > 1:
            walks["compiled"] = packed(task, k, "compiled")
        times = measured(walks, updates, rounds, device)
        if cores:
            times["cores"] = [cores.seconds(name, k, updates) for _ in range(rounds)]
        pack, pairs = walks["pack"], times["pack"]
        walks.clear()
        forget_peak()
        pack(2)
        ratios = {n: statistics.median(a / b for a, b in zip(times[n], pairs, strict=True))
                  for n in shown if n in times}  # fmt: skip
        if "compiled" in ratios:
            ratios["compiled"] = 1 / ratios["compiled"]
        spread = [a / b for a, b in zip(times["plain"], pairs, strict=True)]
        each = statistics.median(pairs) / updates / k * 1000
        rows.append({"case": name, "device": device, "members": k, "ms": each, "ratios": ratios,
                     "spread": [min(spread), max(spread)], "peak_mib": peak_mib(),
                     "auto": found.size})  # fmt: skip
        print(f"{k:4} {each:12.3f} " + " ".join(f"{ratios.get(n, 1.0):10.2f}" for n in shown)
              + f"   {min(spread):5.2f} to {max(spread):4.2f} {peak_mib():8.0f}",
              flush=True)  # fmt: skip
    if cores:
        cores.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Packs beside the loops that they replace.")
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--sizes", default="1,2,4,8,16,32,64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")
    given = parser.parse_args()
    if "MALLOC_MMAP_MAX_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_HEAP})
    torch.set_num_threads(1)
    own_folder()
    sizes, rows = [int(size) for size in given.sizes.split(",")], []
    for name in given.cases:
        rows += case_rows(name, sizes, given.rounds, given.device)
    if given.json:
        given.json.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
