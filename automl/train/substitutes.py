"""Layers that a pack computes otherwise than a single model, with the same results.

Dropout        multiplies with masks that come from outside, each member's own
BatchNorm      one call for all members, their channels side by side; vmap's own rule applies
               weight and bias, and their gradients, in passes of their own over the memory
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_DROPOUTS: dict[type[nn.Module], Callable[[Tensor, float, bool], Tensor]] = {
    nn.Dropout: F.dropout,
    nn.Dropout1d: F.dropout1d,
    nn.Dropout2d: F.dropout2d,
    nn.Dropout3d: F.dropout3d,
}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Sites:
    """The uses of dropout layers in one forward pass, in order, and their masks."""

    __slots__ = ("_masks", "_next", "_recording", "uses")  # opaque: no part of a fingerprint

    def __init__(self) -> None:
        self.uses: list[tuple[str, Tensor]] = []  # layer, ones of its input's shape and strides
        self._masks: Sequence[Tensor] = ()
        self._next = 0
        self._recording = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within it a forward pass tells where masks are wanted."""
        self._recording = True
        yield
        self._recording = False

    @contextmanager
    def using(self, masks: Sequence[Tensor]) -> Iterator[None]:
        """Within it a forward pass multiplies with these masks."""
        self._masks, self._next = masks, 0
        yield
        self._masks = ()

    def apply(self, name: str, x: Tensor) -> Tensor:
        if self._recording:
            self.uses.append((name, torch.ones_like(x)))
            return x
        self._next += 1
        return x * self._masks[self._next - 1]

    @staticmethod
    def draw(layer: nn.Module, ones: Tensor, mask: Tensor) -> None:
        """Fill `mask` with what `layer` multiplies its input with; torch draws as for the input."""
        rate = _rate(layer)
        if type(layer) is nn.Dropout and ones.is_contiguous() and 0 < rate < 1:
            mask.bernoulli_(1 - rate).div_(1 - rate)  # what F.dropout does, on one buffer
        else:
            mask.copy_(_DROPOUTS[type(layer)](ones, rate, True))


def _rate(layer: nn.Module) -> float:
    rate = layer.p
    assert isinstance(rate, float | int)
    return float(rate)


class _Masked(nn.Module):
    def __init__(self, name: str, sites: Sites, rate: float) -> None:
        super().__init__()
        self._name, self._sites = name, sites
        self.p = rate  # a model may skip a layer whose rate is 0

    def forward(self, x: Tensor) -> Tensor:
        return self._sites.apply(self._name, x) if self.p else x


def dropout_rates(models: Sequence[nn.Module]) -> dict[str, float]:
    """The largest rate of each dropout layer among models of one structure."""
    names = [n for n, m in models[0].named_modules() if type(m) in _DROPOUTS]
    return {n: max(_rate(m.get_submodule(n)) for m in models) for n in names}


def substituted(model: nn.Module, sites: Sites, rates: Mapping[str, float]) -> nn.Module:
    """The model, changed in place: its layers of the kinds above replaced.

    Dropout layers of rate 0 among all members (`dropout_rates`) are left out.
    """
    for name, layer in list(model.named_modules()):
        if type(layer) in _DROPOUTS:
            parent, _, last = name.rpartition(".")
            if name:
                setattr(model.get_submodule(parent), last, _Masked(name, sites, rates[name]))
        elif type(layer) in _NORMS and layer.momentum is not None:
            layer.__class__ = _SideBySide  # its weights and buffers keep their names
    return model


class _SideBySide(nn.BatchNorm2d):
    """Batch norm in training, on an input of any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        out, _, _ = _applied(
            _Norm,
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.momentum,
            self.eps,
        )
        return out


class _Norm(torch.autograd.Function):
    """native_batch_norm whose vmap rule puts the members' channels side by side."""

    @staticmethod
    def forward(
        x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_batch_norm(x, w, b, mean, var, True, momentum, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, w, _, _, _, _, eps = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, w, mean, scale)
        ctx.eps = eps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, w, mean, scale = ctx.saved_tensors
        g = _applied(_NormBackward, gradients[0], x, w, mean, scale, ctx.eps)
        return (g[0], *(g[1:] if w is not None else (None, None)), None, None, None, None)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        k = info.batch_size
        wide = _wide(x, in_dims[0], k)
        rows = [_row(a, d, k) for a, d in zip(rest[:4], in_dims[1:5], strict=True)]
        out, mean, scale = _applied(_Norm, wide, *rows, *rest[4:])
        return (_narrow(out, k), mean.view(k, -1), scale.view(k, -1)), (1, 0, 0)


class _NormBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        g: Tensor, x: Tensor, w: Tensor, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.aten.native_batch_norm_backward(  # type: ignore[no-any-return]
            g, x, w, None, None, mean, scale, True, eps, [True, True, True]
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], g: Tensor, x: Tensor, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        k = info.batch_size
        rows = [_row(a, d, k) for a, d in zip(rest[:3], in_dims[2:5], strict=True)]
        gx, gw, gb = _applied(
            _NormBackward, _wide(g, in_dims[0], k), _wide(x, in_dims[1], k), *rows, rest[3]
        )
        return (_narrow(gx, k), gw.view(k, -1), gb.view(k, -1)), (1, 0, 0)


def _applied(function: Any, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = function.apply(*given)
    return found


def _wide(x: Tensor, dim: int | None, k: int) -> Tensor:
    """[b, k*c, ...] of x [b, c, ...] with members along `dim`."""
    x = x.unsqueeze(1).expand(-1, k, *x.shape[1:]) if dim is None else x.movedim(dim, 1)
    return x.flatten(1, 2)


def _narrow(x: Tensor, k: int) -> Tensor:
    out: Tensor = x.unflatten(1, (k, -1))
    return out


def _row(a: Tensor | None, dim: int | None, k: int) -> Tensor | None:
    """[k*c] of a [k, c]; running statistics as a view, so that they are changed in place."""
    if a is None:
        return None
    return a.expand(k, -1).flatten() if dim is None else a.movedim(dim, 0).flatten()
