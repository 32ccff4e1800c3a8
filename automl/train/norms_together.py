"""Batch norm and group norm of all members in one call, their channels side by side.

A norm of k members is one of k times as many channels, or groups. vmap's own rules apply weight and
bias, and their gradients, in passes of their own over the memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from automl.train.channels import all_there, applied, image_of, narrow_of, row_of, wide_of

_aten: Any = torch.ops.aten


class BatchNormTogether(nn.BatchNorm2d):
    """Batch norm in training, on an input of any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        given = (self.weight, self.bias, self.running_mean, self.running_var)
        out: Tensor = applied(_Norm, x, *given, self.momentum, self.eps)[0]
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
        g = applied(_NormBackward, gradients[0], x, w, mean, scale, ctx.eps)
        return (g[0], *(g[1:] if w is not None else (None, None)), None, None, None, None)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
        k = info.batch_size
        wide = wide_of(x, in_dims[0], k)
        rows = [row_of(a, d, k) for a, d in zip(rest[:4], in_dims[1:5], strict=True)]
        out, mean, scale = applied(_Norm, wide, *rows, *rest[4:])
        return (narrow_of(out, k), mean.view(k, -1), scale.view(k, -1)), (1, 0, 0)


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
        rows = [row_of(a, d, k) for a, d in zip(rest[:3], in_dims[2:5], strict=True)]
        gx, gw, gb = applied(
            _NormBackward, wide_of(g, in_dims[0], k), wide_of(x, in_dims[1], k), *rows, rest[3]
        )
        return (narrow_of(gx, k), gw.view(k, -1), gb.view(k, -1)), (1, 0, 0)


class GroupNormTogether(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):  # as autocast does on a GPU
            x = x.float()
        out: Tensor = applied(_Groups, x, self.weight, self.bias, self.num_groups, self.eps)[0]
        return out


class _Groups(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor, w: Tensor | None, b: Tensor | None, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = _aten.native_group_norm(x, w, b, *_extent(x), groups, eps)
        return all_there(found, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, w, _, ctx.groups, _ = inputs
        _, mean, scale = output
        ctx.mark_non_differentiable(mean, scale)
        ctx.save_for_backward(x, w, mean, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gx, gw, gb = applied(_GroupsBackward, gradients[0], *ctx.saved_tensors, ctx.groups)
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
        rows = row_of(w, in_dims[1], k), row_of(b, in_dims[2], k)
        found = applied(_Groups, image_of(x, in_dims[0], k), *rows, groups * k, eps)
        out, mean, scale = (narrow_of(a, k) for a in found)
        return (out, mean, scale), (1, 1, 1)


class _GroupsBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        g: Tensor, x: Tensor, w: Tensor | None, mean: Tensor, scale: Tensor, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = [True, w is not None, w is not None]
        found = _aten.native_group_norm_backward(g, x, mean, scale, w, *_extent(x), groups, wanted)
        return all_there(found, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], g: Tensor, x: Tensor, w: Any, *rest: Any
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int | None, int | None]]:
        k = info.batch_size
        wide = [image_of(a, d, k) for a, d in zip((g, x), in_dims, strict=False)]
        known = [wide_of(a, d, k) for a, d in zip(rest[:2], in_dims[3:5], strict=True)]
        row = row_of(w, in_dims[2], k)
        gx, gw, gb = applied(_GroupsBackward, *wide, row, *known, rest[2] * k)
        if row is None:
            return (narrow_of(gx, k), gw, gb), (1, None, None)
        return (narrow_of(gx, k), gw.view(k, -1), gb.view(k, -1)), (1, 0, 0)


def _extent(x: Tensor) -> tuple[int, int, int]:
    """Samples, channels, places."""
    return len(x), x.shape[1], x[0, 0].numel()
