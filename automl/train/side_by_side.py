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

_aten: Any = torch.ops.aten
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def put_side_by_side(layer: nn.Module, *, images: bool = True) -> None:
    """Change the layer in place where it is one of these; what it holds keeps its names.

    Without `images` batch norm alone, which takes any layout.
    """
    if type(layer) in _NORMS and layer.momentum is not None:
        layer.__class__ = _BatchNorm
    elif not images:
        return
    elif type(layer) is nn.GroupNorm:
        layer.__class__ = _GroupNorm
    elif type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and layer.padding != "same":
        layer.__class__ = _Convolution
    elif type(layer) is nn.MaxPool2d and not layer.return_indices:
        layer.__class__ = _MaxPool
    elif type(layer) is nn.AvgPool2d:
        layer.__class__ = _AvgPool


class _BatchNorm(nn.BatchNorm2d):
    """Batch norm in training, on an input of any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        given = (self.weight, self.bias, self.running_mean, self.running_var)
        out: Tensor = _applied(_Norm, x, *given, self.momentum, self.eps)[0]
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


class _GroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _applied(_Groups, x, self.weight, self.bias, self.num_groups, self.eps)[0]
        return out


class _Groups(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor, w: Tensor | None, b: Tensor | None, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = _aten.native_group_norm(x, w, b, *_extent(x), groups, eps)
        return _all_there(found, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, w, _, ctx.groups, _ = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, w, mean, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gx, gw, gb = _applied(_GroupsBackward, gradients[0], *ctx.saved_tensors, ctx.groups)
        affine = ctx.saved_tensors[1] is not None
        return gx, gw if affine else None, gb if affine else None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        w: Any,
        b: Any,
        groups: int,
        eps: float,
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        k = info.batch_size
        rows = _row(w, in_dims[1], k), _row(b, in_dims[2], k)
        found = _applied(_Groups, _image(x, in_dims[0], k), *rows, groups * k, eps)
        out, mean, scale = (_narrow(a, k) for a in found)
        return (out, mean, scale), (1, 1, 1)


class _GroupsBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        g: Tensor, x: Tensor, w: Tensor | None, mean: Tensor, scale: Tensor, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = [True, w is not None, w is not None]
        found = _aten.native_group_norm_backward(g, x, mean, scale, w, *_extent(x), groups, wanted)
        return _all_there(found, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], g: Tensor, x: Tensor, w: Any, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int | None, int | None]]:
        k = info.batch_size
        wide = [_image(a, d, k) for a, d in zip((g, x), in_dims, strict=False)]
        known = [_wide(a, d, k) for a, d in zip(rest[:2], in_dims[3:5], strict=True)]
        row = _row(w, in_dims[2], k)
        gx, gw, gb = _applied(_GroupsBackward, *wide, row, *known, rest[2] * k)
        if row is None:
            return (_narrow(gx, k), gw, gb), (1, None, None)
        return (_narrow(gx, k), gw.view(k, -1), gb.view(k, -1)), (1, 0, 0)


def _extent(x: Tensor) -> tuple[int, int, int]:
    """Samples, channels, places."""
    return len(x), x.shape[1], x[0, 0].numel()


class _Convolution(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        padding = (0, 0) if self.padding == "valid" else self.padding
        out: Tensor = _applied(
            _Conv, x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )
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
        found = _applied(_ConvBackward, gradients[0], *ctx.saved_tensors, wanted, *ctx.rest)
        gx, gw, gb = found
        return gx if wanted[0] else None, gw, gb if ctx.biased else None, None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, w: Tensor, b: Any, *rest: Any
    ) -> tuple[Tensor, int]:
        k = info.batch_size
        *others, groups = rest
        wide, kernels = _image(x, in_dims[0], k), _rows(w, in_dims[1], k)
        out = _applied(_Conv, wide, kernels, _row(b, in_dims[2], k), *others, groups * k)
        return _narrow(out, k), 1


class _ConvBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        g: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, ...], *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        stride, padding, dilation, groups = rest
        found = _aten.convolution_backward(
            g, x, w, [len(w)], stride, padding, dilation, False, [0, 0], groups, list(wanted)
        )
        return _all_there(found, w)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], g: Tensor, x: Tensor, w: Tensor, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int | None, int, int | None]]:
        k = info.batch_size
        wanted, *others, groups = rest
        wide, inner = _image(g, in_dims[0], k), _image(x, in_dims[1], k)
        kernels = _rows(w, in_dims[2], k)
        gx, gw, gb = _applied(_ConvBackward, wide, inner, kernels, wanted, *others, groups * k)
        gx, gb = (_narrow(gx, k) if wanted[0] else gx), (gb.view(k, -1) if wanted[2] else gb)
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
        g = _applied(_PoolBackward, gradients[0], x, places, ctx.kind, *ctx.rest)
        return g, None, *(None for _ in ctx.rest)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, kind: str, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int | None]]:
        k = info.batch_size
        out, places = _applied(_Pool, _image(x, in_dims[0], k), kind, *rest)
        if kind == "max":
            return (_narrow(out, k), _narrow(places, k)), (1, 1)
        return (_narrow(out, k), places), (1, None)


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
        wide = [_image(a, d, k) for a, d in zip((g, x), in_dims, strict=False)]
        if kind == "max":
            places = _image(places, in_dims[2], k)
        return _narrow(_applied(_PoolBackward, *wide, places, kind, *rest), k), 1


def _applied(function: Any, *given: Any) -> Any:
    return function.apply(*given)


def _pooled(*given: Any) -> Tensor:
    out: Tensor = _applied(*given)[0]
    return out


def _pair(value: Any) -> list[int]:
    return list(value) if isinstance(value, Sequence) else [value, value]


def _all_there(found: Sequence[Tensor | None], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With an empty tensor for what was not asked for."""
    x, w, b = (like.new_empty(0) if a is None else a for a in found)
    return x, w, b


def _image(x: Tensor, dim: int | None, k: int) -> Tensor:
    """`_wide` of images, laid out as is best."""
    wide = _wide(x, dim, k)
    if wide.device.type != "cpu" or wide.ndim != 4:
        return wide.contiguous()
    return wide.contiguous(memory_format=torch.channels_last)


def _rows(w: Tensor, dim: int | None, k: int) -> Tensor:
    """[k*o, ...] of kernels w [o, ...] with members along `dim`."""
    w = w.expand(k, *w.shape) if dim is None else w.movedim(dim, 0)
    return w.flatten(0, 1)


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
