"""What of a module decides the operations it runs, its numbers in tensors aside.

Two modules of equal fingerprint run the same program on their own weights, buffers and dropout
masks: so one trace serves both. Compared are the tree of layers, their classes and all attributes;
what cannot be compared (an object without a value of its own) is equal only to itself.
"""

from __future__ import annotations

import hashlib
import types
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_TENSORS = ("_parameters", "_buffers", "_modules", "training")
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size)


def fingerprint(module: nn.Module) -> Hashable:
    """Equal for modules that differ in weights, buffers and rates of `nn.Dropout` alone."""
    return tuple((name, type(m), _attributes(m)) for name, m in module.named_modules())


def _attributes(module: nn.Module) -> Hashable:
    hidden = {*_TENSORS, "p"} if type(module) in _DROPOUTS else {*_TENSORS}
    return tuple((n, _told(v)) for n, v in sorted(vars(module).items()) if n not in hidden)


def _told(value: Any) -> Hashable:
    if isinstance(value, nn.Module | weakref.ref):
        return "module"  # told where it stands in the tree, or a pointer into it
    if isinstance(value, nn.Parameter):
        return "parameter", tuple(value.shape)
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return tuple(value.shape), value.dtype, hashlib.sha256(data).digest()
    if isinstance(value, _PLAIN):
        return type(value), repr(value)
    if isinstance(value, Mapping):
        return tuple((_told(k), _told(v)) for k, v in value.items())
    if isinstance(value, Sequence | set | frozenset):
        return type(value), tuple(map(_told, value))
    if isinstance(value, types.FunctionType) and value.__closure__ is None:
        return value.__code__, _told(value.__defaults__)
    return id(value)
