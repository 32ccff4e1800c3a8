"""Layers that treat each channel by itself, or groups of them: for all members in one call.

The members' channels stand side by side, [b, k*c, ...] of k members [b, c, ...]: a convolution has
k times as many groups, a norm or a pooling k times as many channels. vmap's own rules put members
side by side for convolutions only, and along the batch for poolings, so that activations are
copied between them; they apply weight and bias of a norm, and the bias of a convolution, in passes
of their own over the memory.

On a CPU images are laid out channels last, [b, h, w, k*c] in memory, where a pooling of many
channels is vectorized (8 times as fast), and grouped convolutions of few channels are as fast or
twice as fast. What acts on single numbers between these layers keeps that layout.

Shapes: k members, b samples, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automl.train.channels import all_there, applied, image_of, narrow_of, row_of, rows_of
from automl.train.norms_together import BatchNormTogether, GroupNormTogether

_aten: Any = torch.ops.aten
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def put_side_by_side(layer: nn.Module, *, images: bool = True) -> None:
    """Change the layer in place where it is one of these; what it holds keeps its names.

    Without `images` batch norm alone, which takes any layout.
    """
    if type(layer) in _NORMS and layer.momentum is not None:
        layer.__class__ = BatchNormTogether
    elif not images:
        return
    elif type(layer) is nn.GroupNorm:
        layer.__class__ = GroupNormTogether
    elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and layer.padding != "same":
        layer.__class__ = _Convolution
    elif type(layer) is nn.MaxPool2d and not layer.return_indices:
        layer.__class__ = _MaxPool
    elif type(layer) is nn.AvgPool2d:
        layer.__class__ = _AvgPool


class _Convolution(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        padding = (0, 0) if self.padding == "valid" else self.padding
        given = [x, self.weight, self.bias]
        if torch.is_autocast_enabled(x.device.type):  # so that backward gets what forward had
            half = torch.get_autocast_dtype(x.device.type)
            given = [a if a is None else a.to(half) for a in given]
        out: Tensor = applied(_Conv, *given, self.stride, padding, self.dilation, self.groups)
        return out


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> Tensor:
        out: Tensor = torch.conv2d(x, w, b, *rest)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, w, b, *ctx.rest = inputs
        ctx.save_for_backward(x, w)
        ctx.biased = b is not None

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        wanted = (ctx.needs_input_grad[0], True, ctx.biased)
        found = applied(_ConvBackward, gradients[0], *ctx.saved_tensors, wanted, *ctx.rest)
        gx, gw, gb = found
        return gx if wanted[0] else None, gw, gb if ctx.biased else None, None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, w: Tensor, b: Any, *rest: Any
    ) -> tuple[Tensor, int]:
        k = info.batch_size
        *others, groups = rest
        wide, kernels = image_of(x, in_dims[0], k), rows_of(w, in_dims[1], k)
        out = applied(_Conv, wide, kernels, row_of(b, in_dims[2], k), *others, groups * k)
        return narrow_of(out, k), 1


class _ConvBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        g: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, ...], *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        stride, padding, dilation, groups = rest
        found = _aten.convolution_backward(
            g, x, w, [len(w)], stride, padding, dilation, False, [0, 0], groups, list(wanted)
        )
        return all_there(found, w)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], g: Tensor, x: Tensor, w: Tensor, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int | None, int, int | None]]:
        k = info.batch_size
        wanted, *others, groups = rest
        wide, inner = image_of(g, in_dims[0], k), image_of(x, in_dims[1], k)
        kernels = rows_of(w, in_dims[2], k)
        gx, gw, gb = applied(_ConvBackward, wide, inner, kernels, wanted, *others, groups * k)
        gx, gb = (narrow_of(gx, k) if wanted[0] else gx), (gb.view(k, -1) if wanted[2] else gb)
        return (gx, gw.unflatten(0, (k, -1)), gb), (
            1 if wanted[0] else None,
            0,
            0 if wanted[2] else None,
        )


class _MaxPool(nn.MaxPool2d):
    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride or self.kernel_size
        given = (self.kernel_size, stride, self.padding, self.dilation, self.ceil_mode)
        return _pooled(_Pool, x, "max", *map(_pair, given[:4]), given[4])


class _AvgPool(nn.AvgPool2d):
    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride or self.kernel_size
        pairs = map(_pair, (self.kernel_size, stride, self.padding))
        return _pooled(
            _Pool, x, "avg", *pairs, self.ceil_mode, self.count_include_pad, self.divisor_override
        )


class _Pool(torch.autograd.Function):
    """Output, and the places of the largest where it is of these (else nothing)."""

    @staticmethod
    def forward(x: Tensor, kind: str, *rest: Any) -> tuple[Tensor, Tensor]:
        if kind == "max":
            out, places = _aten.max_pool2d_with_indices(x, *rest)
            return out, places
        return _aten.avg_pool2d(x, *rest), x.new_empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.kind, *ctx.rest = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(x, output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, places = ctx.saved_tensors
        g = applied(_PoolBackward, gradients[0], x, places, ctx.kind, *ctx.rest)
        return g, None, *(None for _ in ctx.rest)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, kind: str, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int | None]]:
        k = info.batch_size
        out, places = applied(_Pool, image_of(x, in_dims[0], k), kind, *rest)
        if kind == "max":
            return (narrow_of(out, k), narrow_of(places, k)), (1, 1)
        return (narrow_of(out, k), places), (1, None)


class _PoolBackward(torch.autograd.Function):
    @staticmethod
    def forward(g: Tensor, x: Tensor, places: Tensor, kind: str, *rest: Any) -> Tensor:
        found: Tensor
        if kind == "max":
            found = _aten.max_pool2d_with_indices_backward(g, x, *rest, places)
        else:
            found = _aten.avg_pool2d_backward(g, x, *rest)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], g: Tensor, x: Tensor, places: Tensor, kind: str,
        *rest: Any,
    ) -> tuple[Tensor, int]:  # fmt: skip
        k = info.batch_size
        wide = [image_of(a, d, k) for a, d in zip((g, x), in_dims, strict=False)]
        if kind == "max":
            places = image_of(places, in_dims[2], k)
        return narrow_of(applied(_PoolBackward, *wide, places, kind, *rest), k), 1


def _pooled(*given: Any) -> Tensor:
    out: Tensor = applied(*given)[0]
    return out


def _pair(value: Any) -> list[int]:
    return list(value) if isinstance(value, Sequence) else [value, value]
