"""What packs are measured against: the same trainings without packs, in torch alone.

    plain       one model after the other, AdamW as torch makes it, cosine schedule
    fused       the same with AdamW(fused=True)
    step        one model's whole step under torch.compile, called for one model after the other
    graph       one CUDA graph a trial: forward, backward and fused AdamW captured once a model, and
                replayed on eight streams in turns
    processes   `fused` in several processes at once: one a core, or that many on one GPU

Each model has its batches gathered on the device, and its loss kept there; on a CPU it is read
after each update, as every loop does that reports it.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import BrokenBarrierError
from typing import Any

import torch
from pack_cases import CASES, UPDATES, recipes, task_of
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.nn import functional as F

from automl.tasks.task import ModelTask

Walk = Callable[[int], None]  # make so many updates of all members
Context = Callable[[], AbstractContextManager[object]]  # of a forward
_STREAMS = 8
_WAIT = 600.0  # seconds for all processes to get ready
_BARRIER: Any = None  # of the processes of one pool


def in_turn(walks: list[Walk]) -> Walk:
    def walk(updates: int) -> None:
        for one in walks:
            one(updates)

    return walk


def precision_of(task: ModelTask, precision: str) -> Context:
    if precision != "bfloat16":
        return nullcontext
    return lambda: torch.autocast(torch.device(task.card.device).type, torch.bfloat16)


def models_of(task: ModelTask, k: int) -> list[nn.Module]:
    models = []
    for recipe in recipes(k):
        torch.manual_seed(recipe.seed)
        models.append(task.build(recipe).to(task.card.device).train())
    return models


def data_of(task: ModelTask) -> tuple[Tensor, Tensor]:
    x, y = task.train.x, task.train.y
    assert x is not None and y is not None
    return x.to(task.card.device), y.to(task.card.device)


def plain(task: ModelTask, k: int, *, fused: bool, precision: str = "float32") -> Walk:
    data, batch, context = data_of(task), task.card.batch_size, precision_of(task, precision)
    return in_turn([_plain_one(*data, batch, m, fused, context) for m in models_of(task, k)])


def _plain_one(
    x: Tensor, y: Tensor, batch: int, model: nn.Module, fused: bool, context: Context
) -> Walk:
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, UPDATES)

    def walk(updates: int) -> None:
        order = torch.randperm(len(x)).to(x.device)
        for update in range(updates):
            first = update * batch % (len(x) - batch)
            rows = order[first : first + batch]
            with context():
                output = model(x[rows])
            loss = F.cross_entropy(output.float().flatten(0, -2), y[rows].flatten())
            adamw.zero_grad()
            loss.backward()
            adamw.step()
            schedule.step()
            if x.device.type == "cpu":
                loss.item()

    return walk


class GraphedTrial:
    """One model's whole update as one CUDA graph; on a CPU the function that would be captured.

    Static are the batch's rows, the learning rate and the sum of losses: what an update is given
    is copied there before each replay.
    """

    def __init__(
        self, x: Tensor, y: Tensor, batch: int, model: nn.Module, context: Context
    ) -> None:
        self._x, self._y, self._model, self._context = x, y, model, context
        device = x.device
        cuda = device.type == "cuda"
        self._rows = torch.zeros(batch, dtype=torch.long, device=device)
        self._lr = torch.tensor(1e-3, device=device)
        self.losses = torch.zeros((), device=device)
        self._adamw = torch.optim.AdamW(
            model.parameters(), lr=self._lr, fused=cuda or None, capturable=cuda
        )
        half = torch.arange(UPDATES // 100, dtype=torch.float64) * torch.pi / UPDATES
        self._rates = (0.5e-3 * (1 + half.cos())).float().to(device)
        self._replay = self._captured(device) if cuda else self._update

    def _update(self) -> None:
        with self._context():
            output = self._model(self._x.index_select(0, self._rows))
        target = self._y.index_select(0, self._rows).flatten()
        loss = F.cross_entropy(output.float().flatten(0, -2), target)
        self._adamw.zero_grad(set_to_none=False)
        loss.backward()
        self._adamw.step()
        self.losses += loss.detach()

    def _captured(self, device: torch.device) -> Callable[[], None]:
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(3):  # gradients and states come to their memory
                self._update()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            self._update()
        return graph.replay

    def __call__(self, rows: Tensor, update: int) -> None:
        self._rows.copy_(rows)
        self._lr.copy_(self._rates[update % len(self._rates)])
        self._replay()


def graphs(task: ModelTask, k: int, precision: str = "float32") -> Walk:
    """Replays of K graphs in turns, each trial on a stream of its own among eight."""
    data, batch, context = data_of(task), task.card.batch_size, precision_of(task, precision)
    trials = [GraphedTrial(*data, batch, model, context) for model in models_of(task, k)]
    device, n = data[0].device, len(task.train)
    cuda = device.type == "cuda"
    streams = [torch.cuda.Stream(device) for _ in range(_STREAMS)] if cuda else []

    def walk(updates: int) -> None:
        orders = [torch.randperm(n).to(device) for _ in trials]
        for stream in streams:
            stream.wait_stream(torch.cuda.current_stream(device))
        for update in range(updates):
            first = update * batch % (n - batch)
            for i, (trial, order) in enumerate(zip(trials, orders, strict=True)):
                with torch.cuda.stream(streams[i % _STREAMS]) if cuda else nullcontext():
                    trial(order[first : first + batch], update)
        for stream in streams:
            torch.cuda.current_stream(device).wait_stream(stream)

    return walk


def compiled_step(task: ModelTask) -> Walk:
    """The whole step of one model, compiled once."""
    x, y = data_of(task)
    (model,) = models_of(task, 1)
    names = [n for n, _ in model.named_parameters()]
    w = [p.detach().clone() for p in model.parameters()]
    m, v = ([torch.zeros_like(p) for p in w] for _ in range(2))
    rest = dict(model.named_buffers())

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
        order = torch.randperm(len(x))
        for update in range(updates):
            first = update * batch % (len(x) - batch)
            rows = order[first : first + batch]
            at, lr = torch.tensor(float(update + 1)), torch.tensor(1e-3)
            run(w, m, v, rest, at, lr, x[rows], y[rows]).item()

    return walk


class Processes:
    """Several processes at once, warm: one a core, or `count` on one GPU."""

    def __init__(self, count: int) -> None:
        self.count = count
        context = multiprocessing.get_context("spawn")
        self._pools = {
            n: ProcessPoolExecutor(n, context, _meet, (context.Barrier(n),)) for n in (count,)
        }
        self._context = context

    def seconds(self, name: str, k: int, updates: int, device: str, precision: str) -> float:
        """Of K trainings, shared out: of the CPUs, or from the first's begin to the last's end."""
        n = min(k, self.count)
        if n not in self._pools:
            barrier = self._context.Barrier(n)
            self._pools[n] = ProcessPoolExecutor(n, self._context, _meet, (barrier,))
        shares = [k // n + (i < k % n) for i in range(n)]
        given = [(name, share, updates, device, precision) for share in shares]
        found = list(self._pools[n].map(_one_process, *zip(*given, strict=True)))
        if device == "cpu":
            return sum(cpu for cpu, _, _ in found)
        return max(end for _, _, end in found) - min(begin for _, begin, _ in found)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown()


def _meet(barrier: Any) -> None:
    global _BARRIER
    _BARRIER = barrier


def _one_process(
    name: str, k: int, updates: int, device: str, precision: str
) -> tuple[float, float, float]:
    """CPU seconds, begin and end on the system's clock; start-up and warming up left out.

    Raises:
        BrokenBarrierError: another process has failed, or did not get ready.
    """
    torch.set_num_threads(1)
    walk = plain(task_of(CASES[name], device), k, fused=True, precision=precision)
    walk(3)
    cuda = device != "cpu"
    if cuda:
        torch.cuda.synchronize()
    try:
        _BARRIER.wait(_WAIT)
    except BrokenBarrierError:
        raise RuntimeError("the processes of a benchmark did not all get ready") from None
    cpu, begin = time.process_time(), time.monotonic()
    walk(updates)
    if cuda:
        torch.cuda.synchronize()
    return time.process_time() - cpu, begin, time.monotonic()
