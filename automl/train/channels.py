"""Members' channels side by side: tensors [b, k*c, ...] of k members' [b, c, ...], and back.

For the vmap rules of layers that one call serves for all members (`side_by_side.py`), which get
each tensor with its members along some dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def applied(function: Any, *given: Any) -> Any:
    return function.apply(*given)


def all_there(found: Sequence[Tensor | None], like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With an empty tensor for what was not asked for."""
    x, w, b = (like.new_empty(0) if a is None else a for a in found)
    return x, w, b


def image_of(x: Tensor, dim: int | None, k: int) -> Tensor:
    """`wide_of` of images, laid out as is best."""
    wide = wide_of(x, dim, k)
    if wide.device.type != "cpu" or wide.ndim != 4:
        return wide.contiguous()
    return wide.contiguous(memory_format=torch.channels_last)


def rows_of(w: Tensor, dim: int | None, k: int) -> Tensor:
    """[k*o, ...] of kernels w [o, ...] with members along `dim`."""
    w = w.expand(k, *w.shape) if dim is None else w.movedim(dim, 0)
    return w.flatten(0, 1)


def wide_of(x: Tensor, dim: int | None, k: int) -> Tensor:
    """[b, k*c, ...] of x [b, c, ...] with members along `dim`."""
    x = x.unsqueeze(1).expand(-1, k, *x.shape[1:]) if dim is None else x.movedim(dim, 1)
    return x.flatten(1, 2)


def narrow_of(x: Tensor, k: int) -> Tensor:
    out: Tensor = x.unflatten(1, (k, -1))
    return out


def row_of(a: Tensor | None, dim: int | None, k: int) -> Tensor | None:
    """[k*c] of a [k, c]; running statistics as a view, so that they are changed in place."""
    if a is None:
        return None
    return a.expand(k, -1).flatten() if dim is None else a.movedim(dim, 0).flatten()
