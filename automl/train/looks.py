"""What an optimizer may ask of the model beyond the gradient: see `Looks` in methods/stages.py.

Member by member, each with its own module. `train_best.py` of a recipe that needs it carries this
file's source.

Shapes: k members, p weights, b samples, t positions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from automl.methods.stages import Batch, Draws, LayerLook, Layout

LOOK_ROWS = 16384  # samples times positions that a layer's look is taken from


class BatchLooks:
    """Looks at one step's batch.

    Args:
        modules: one a member; their parameters are views of `rows`.
        rows: each member's weights [p], in the order of `layout`.
        batch: the members' part of the step's batch.
        loss: (member, output [b, ...], y [b, ...], y2, weight [b]) -> 0-dim loss of that member.
        begin: called with a member's place before each forward: sets what its dropout draws.
        precision: context of a forward.
        draws: of the step.
        scales: by which the model's weights are larger than those the optimizer sees, [k, p].
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        rows: Sequence[Tensor],
        layout: Layout,
        batch: Batch,
        *,
        loss: Callable[..., Tensor],
        begin: Callable[[int], None],
        precision: Callable[[], AbstractContextManager[object]],
        draws: Draws,
        scales: Tensor | None = None,
    ) -> None:
        self._scales = scales
        self._modules, self._rows, self._layout, self._batch = modules, rows, layout, batch
        self._loss, self._begin, self._precision = loss, begin, precision
        self.draws = draws
        y = batch.y[0]
        self.labels = len(y) if y.is_floating_point() else y.numel()
        self.passes = 0.0

    def loss(self, x: Tensor) -> Tensor:
        self.passes += 1 / 3
        found = []
        for k in range(len(x)):
            with self._at(k, x), torch.no_grad():
                found.append(self._forward(k)[0])
        return torch.stack(found)

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.passes += 1
        losses, found = [], []
        for k in range(len(x)):
            with self._at(k, x), torch.enable_grad():
                loss, _ = self._forward(k)
                found.append(self._slope(loss, k))
                losses.append(loss.detach())
        return torch.stack(losses), torch.stack(found)

    def product(self, x: Tensor, v: Tensor) -> Tensor:
        self.passes += 3
        found = []
        # Neither fused attention nor cuDNN's recurrent layers can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            for k in range(len(x)):
                with self._at(k, x), torch.enable_grad():
                    slope = self._slope(self._forward(k)[0], k, again=True)
                    along = (slope * v[k]).sum()
                    found.append(self._slope(along, k) if along.requires_grad else slope * 0)
        return torch.stack(found)

    def sampled(self, x: Tensor) -> Tensor:
        self.passes += 1
        found, noise = [], _Noise(self.draws)
        for k in range(len(x)):
            with self._at(k, x), torch.enable_grad():
                found.append(self._slope(self._sampled_loss(k, noise), k))
        return torch.stack(found)

    def layers(self, x: Tensor) -> dict[str, LayerLook]:
        self.passes += 1
        names = {slot.name for slot in self._layout.slots if slot.role != "embedding"}
        noise, per = _Noise(self.draws), self.labels // len(self._batch.y[0])
        every: list[dict[str, tuple[Tensor, Tensor]]] = []
        for k, module in enumerate(self._modules):
            watched = {f"{n}.weight": m for n, m in module.named_modules() if _has_look(m)}
            watched = {n.removeprefix("."): m for n, m in watched.items()}
            seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
            handles = [
                m.register_forward_hook(_recorder(seen.setdefault(n, [])))
                for n, m in watched.items()
                if n in names
            ]
            try:
                with self._at(k, x), torch.enable_grad():
                    loss = self._sampled_loss(k, noise) * self.labels
                    once = {n: calls[0] for n, calls in seen.items() if len(calls) == 1}
                    outputs = [output for _, output in once.values()]
                    slopes = torch.autograd.grad(loss, outputs, allow_unused=True)
            finally:
                for handle in handles:
                    handle.remove()
            every.append(
                {
                    n: _rows_of(watched[n], given, slope.to(x.dtype), per)
                    for (n, (given, _)), slope in zip(once.items(), slopes, strict=True)
                    if slope is not None
                }
            )
        return {
            name: LayerLook(
                inputs=torch.stack([own[name][0] for own in every]),
                slopes=torch.stack([own[name][1] for own in every]),
            )
            for name in every[0]
        }

    # One member ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _at(self, k: int, x: Tensor) -> Iterator[None]:
        """Member k at the weights x[k]; afterwards as it was, batch norm's statistics too."""
        row, module = self._rows[k], self._modules[k]
        kept = [(b, b.clone()) for b in module.buffers()]
        elsewhere = self._scales is not None or x[k].data_ptr() != row.data_ptr()
        before = row.clone() if elsewhere else row
        if elsewhere:
            row.copy_(x[k] if self._scales is None else x[k] * self._scales[k])
        self._begin(k)
        try:
            yield
        finally:
            if elsewhere:
                row.copy_(before)
            for buffer, value in kept:
                buffer.copy_(value)

    def _forward(self, k: int) -> tuple[Tensor, Tensor]:
        batch = self._batch
        with self._precision():
            output = self._modules[k](batch.x[k])
        y2 = None if batch.y2 is None else batch.y2[k]
        weight = None if batch.weight is None else batch.weight[k]
        return self._loss(k, output, batch.y[k], y2, weight), output

    def _sampled_loss(self, k: int, noise: _Noise) -> Tensor:
        """The loss on labels drawn from the softmax of the output, or from a normal around it."""
        with self._precision():
            output = self._modules[k](self._batch.x[k])
        u = noise.like(output)[k].to(output.device)
        if self._batch.y.is_floating_point():
            # Squared error is minus the log-likelihood of variance 1/2.
            normal = torch.erfinv(2 * u - 1) * 2**0.5
            drawn = output.detach() + normal.to(output.dtype) * 0.5**0.5
        else:
            drawn = (output.detach() - (-u.log()).log()).argmax(-1)
        return self._loss(k, output, drawn, None, None)

    def _slope(self, value: Tensor, k: int, *, again: bool = False) -> Tensor:
        """Gradient [p] of a 0-dim value by member k's weights."""
        named = dict(self._modules[k].named_parameters())
        weights = [named[slot.name] for slot in self._layout.slots]
        parts = torch.autograd.grad(value, weights, create_graph=again, allow_unused=True)
        row = torch.cat(
            [
                (torch.zeros_like(w) if part is None else part).reshape(-1)
                for w, part in zip(weights, parts, strict=True)
            ]
        )
        return row if self._scales is None else row * self._scales[k]


class _Noise:
    """Uniform numbers in (0, 1) for the outputs of all members: one site of the draws."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._drawn: Tensor | None = None

    def like(self, output: Tensor) -> Tensor:
        if self._drawn is None:
            self._drawn = self._draws.uniform(*output.shape).clamp(2**-25, 1 - 2**-24)
        return self._drawn


def _has_look(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        plain = module.groups == 1 and module.padding_mode == "zeros"
        return plain and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def _recorder(calls: list[tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    def record(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        calls.append((given[0].detach(), output))
        return output.clone()  # what follows may change it in place

    return record


def _rows_of(module: Any, given: Tensor, slope: Tensor, per: int) -> tuple[Tensor, Tensor]:
    """Inputs [n, t, c] and slopes [n, t, r] of one layer; `per`: labels of a sample."""
    positions = slope[0].numel() // module.weight.shape[0]
    few = max(1, LOOK_ROWS // positions)
    given, slope = given[:few].to(slope.dtype), slope[:few]
    if hasattr(module, "stride"):  # a convolution
        given = nn.functional.unfold(
            given, module.kernel_size, module.dilation, module.padding, module.stride
        ).mT
        slope = slope.flatten(2).mT
    t = 1 if positions == per else positions
    return given.reshape(-1, t, given.shape[-1]), slope.reshape(-1, t, slope.shape[-1])
