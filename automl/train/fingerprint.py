"""What of a module decides the operations it runs, its numbers in tensors aside.

Two modules of equal fingerprint run the same program on their own weights, buffers and dropout
masks: so one trace serves both. Compared are the tree of layers, their classes and all attributes;
what cannot be compared (an object without a value of its own) is equal only to itself. Objects of
classes written in Python are what their attributes are: a model's configuration, say.
"""

from __future__ import annotations

import hashlib
import types
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from automl.train.keyed_dropout import KeyedDropout

_TENSORS = ("_parameters", "_buffers", "_modules", "training")
_DROPOUTS = (KeyedDropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_IN_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size)


def fingerprint(module: nn.Module) -> Hashable:
    """Equal for modules that differ in weights, buffers and rates of `nn.Dropout` alone."""
    return tuple((name, _class(m), _attributes(m)) for name, m in module.named_modules())


def _class(module: nn.Module) -> Hashable:
    """Each parametrized module has a class of its own: compared is the one that it had before."""
    parametrized = parametrize.is_parametrized(module)
    return parametrize.type_before_parametrizations(module), parametrized


def _attributes(module: nn.Module) -> Hashable:
    hidden = {*_TENSORS, "p", "passing"} if type(module) in _DROPOUTS else {*_TENSORS}
    own = {
        n: v for n, v in sorted(vars(module).items()) if n not in hidden and "state_dict" not in n
    }
    # Hooks are kept by numbers that torch counts upwards: their order is what tells.
    return tuple((n, _told(list(v.values()) if "_hooks" in n else v)) for n, v in own.items())


def _told(value: Any, inside: tuple[int, ...] = ()) -> Hashable:
    """What a value is; `inside` are the objects that it is an attribute of, by id."""
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
        return tuple((_told(k, inside), _told(v, inside)) for k, v in value.items())
    if isinstance(value, Sequence | set | frozenset):
        return type(value), tuple(_told(v, inside) for v in value)
    if isinstance(value, types.FunctionType) and id(value) not in inside:
        within, cells = (*inside, id(value)), value.__closure__ or ()
        closed = [_closed_over(c, within) for c in cells]
        return value.__code__, _told(value.__defaults__, within), tuple(closed)
    written = type(value).__flags__ & _IN_PYTHON and hasattr(value, "__dict__")
    if written and id(value) not in inside and not callable(value):
        return type(value), _told(vars(value), (*inside, id(value)))
    return id(value)


def _closed_over(cell: types.CellType, inside: tuple[int, ...]) -> Hashable:
    try:
        value = cell.cell_contents
    except ValueError:  # not yet filled
        return id(cell)
    # A module that stands in no tree trains nothing, but its numbers are its own.
    return id(value) if isinstance(value, nn.Module) else _told(value, inside)
