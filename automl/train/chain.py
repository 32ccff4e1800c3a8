"""A network opened between its layers, for gradients that need no backpropagation through it all.

See `Chain` in methods/stages.py. Member by member, each with its own module. `train_best.py` of a
recipe that needs it carries this file's source.

Shapes: k members, p weights, b samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from automl.errors import RecipeError
from automl.methods.stages import Batch, Layout


class BatchChain:
    """The layers of each member, on one step's batch.

    Args:
        modules: one a member, torch.nn.Sequential; their parameters lie as `layout` says.
        batch: of the step.
        loss: (member, output [b, ...], y [b, ...], y2, weight [b]) -> 0-dim loss of that member.
        begin: called with a member's place and a layer's number before the layer runs: sets what
            its dropout draws, the same each time.
        precision: context of a forward.

    Raises:
        RecipeError: a module's layers do not stand in one line.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        layout: Layout,
        batch: Batch,
        *,
        loss: Callable[..., Tensor],
        begin: Callable[[int, int], None],
        precision: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._modules, self._layers = modules, [layers_of(m) for m in modules]
        self._layout, self._batch = layout, batch
        self._loss, self._begin, self._precision = loss, begin, precision
        self.depth = len(self._layers[0])
        self._shares = [1 / self.depth] * self.depth
        self.passes = 0.0  # of one member, on average

    def states(self, k: int) -> list[Tensor]:
        x = self._batch.x[k]
        found, work = [x], []
        for number, layer in enumerate(self._layers[k], start=1):
            self._begin(k, number)
            done: list[int] = []
            handles = [m.register_forward_hook(_counter(done)) for m in layer.modules()]
            try:
                with torch.no_grad(), self._precision():
                    x = layer(x)
            finally:
                for handle in handles:
                    handle.remove()
            x = self._exact(x)
            found.append(x)
            work.append(sum(done))
        self._shares = [n / max(sum(work), 1) for n in work]
        self._pay(1 / 3)
        return found

    def layer(self, k: int, number: int, h: Tensor) -> Tensor:
        layer = self._layers[k][number - 1]
        kept = [(b, b.clone()) for b in layer.buffers()]
        self._begin(k, number)
        with self._precision():
            out = layer(h)
        for buffer, value in kept:
            buffer.copy_(value)
        # Forward, and later backward to h where somebody asks for that.
        self._pay(self._shares[number - 1] * (2 if h.requires_grad else 1) / 3)
        return self._exact(out)

    def loss(self, k: int, output: Tensor) -> Tensor:
        batch = self._batch
        y2 = None if batch.y2 is None else batch.y2[k]
        weight = None if batch.weight is None else batch.weight[k]
        return self._loss(k, output, batch.y[k], y2, weight)

    def gradient(self, k: int, value: Tensor) -> Tensor:
        self._pay(1 / 3)
        named = dict(self._modules[k].named_parameters())
        weights = [named[slot.name] for slot in self._layout.slots]
        parts = torch.autograd.grad(value, weights, allow_unused=True)
        flat = [
            (torch.zeros_like(w) if part is None else part).reshape(-1)
            for w, part in zip(weights, parts, strict=True)
        ]
        return torch.cat(flat)

    def _pay(self, passes: float) -> None:
        self.passes += passes / len(self._modules)

    def _exact(self, x: Tensor) -> Tensor:
        half = x.dtype in (torch.bfloat16, torch.float16)
        return x.float() if half else x


def layers_of(module: nn.Module) -> list[nn.Sequential]:
    """The module as layers, each from one matrix of weights up to the next.

    Raises:
        RecipeError: it is no torch.nn.Sequential, or holds no such matrix.
    """
    if not isinstance(module, nn.Sequential):
        raise RecipeError(
            "gradient 'predictive_coding' needs a feed-forward network, layers in one "
            f"torch.nn.Sequential; {type(module).__name__} is none"
        )
    layers: list[list[nn.Module]] = [[]]
    for part in _parts(module):
        if _has_matrix(part) and any(_has_matrix(m) for m in layers[-1]):
            layers.append([])
        layers[-1].append(part)
    if not any(_has_matrix(m) for m in layers[-1]):
        raise RecipeError("gradient 'predictive_coding': the network has no matrix of weights")
    return [nn.Sequential(*layer) for layer in layers]


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.children():
        if isinstance(part, nn.Sequential):
            yield from _parts(part)
        else:
            yield part


def _has_matrix(module: nn.Module) -> bool:
    return any(p.ndim >= 2 for p in module.parameters())


def _counter(done: list[int]) -> Callable[[nn.Module, object, Tensor], None]:
    """A hook that adds up the multiplications of linear layers and convolutions."""

    def count(module: nn.Module, given: object, output: Tensor) -> None:
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 2 and isinstance(output, Tensor):
            done.append(output.numel() * weight[0].numel())

    return count
