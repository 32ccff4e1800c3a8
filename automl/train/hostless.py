"""Refuses what makes a device wait for its host, or depend on what the host holds.

    with Hostless(): update()

A CUDA graph holds operations of the device alone. A number read back (`.item()`, `if tensor`), a
shape that depends on values (`nonzero`, boolean masks), a tensor made of Python's numbers, a copy
between devices, a draw from torch's own generator, a factorization that is checked on the host:
none of it can be captured, or, worse, it is captured as it was. torch marks its operations by such
tags; so the same refusal can be seen on a CPU, where nothing of this would fail.

Source: torch/_ops.py and native_functions.yaml (tags), torch 2.13.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from automl.errors import RecipeError

_aten: Any = torch.ops.aten
# Operations without a tag that say what they do.
_WAITS = {
    _aten.lift_fresh: "makes a tensor of Python's numbers",
    _aten._linalg_check_errors: "checks a factorization on the host",
    _aten._linalg_eigh: "checks a factorization on the host",
    _aten._linalg_svd: "checks a factorization on the host",
    _aten.equal: "compares tensors on the host",
}
_TAGS = {
    torch.Tag.data_dependent_output: "reads a number from a tensor",
    torch.Tag.dynamic_output_shape: "picks out a number of values that depends on its data",
    torch.Tag.nondeterministic_seeded: "draws from torch's own generator",
}
_READS = ("tolist", "numpy", "__array__", "__reduce_ex__", "__deepcopy__")
_INDEXED = (_aten.index, _aten.index_put, _aten.index_put_)


class Hostless(ExitStack):
    """Within it such an operation raises.

    Raises:
        RecipeError: the file of ours or of the user's, the line, and what it does.
    """

    def __enter__(self) -> Hostless:
        super().__enter__()
        self.enter_context(_Calls())
        self.enter_context(_Operations())  # type: ignore[no-untyped-call]
        return self


class _Calls(TorchFunctionMode):
    """What Python reads without an operation of torch."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") in _READS:
            raise RecipeError(_told("takes numbers out of a tensor"))
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        reason = _reason(operation, args, kwargs or {})
        if reason:
            raise RecipeError(_told(reason))
        return operation(*args, **(kwargs or {}))


def _reason(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    packet = operation.overloadpacket
    if packet in _WAITS:
        return _WAITS[packet]
    if packet in _INDEXED:  # by numbers it has a shape of its own
        masks = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        return _TAGS[torch.Tag.dynamic_output_shape] if masks else ""
    for tag, reason in _TAGS.items():
        if tag in operation.tags and not _draws_nothing(operation, tag, args, kwargs):
            return reason
    devices = {x.device for x in args if isinstance(x, Tensor) and x.ndim}
    wanted = kwargs.get("device")
    if len(devices) > 1 or (wanted is not None and devices and wanted not in devices):
        return "moves a tensor between devices"
    return ""


def _draws_nothing(
    operation: Any, tag: torch.Tag, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Whether it is attention without dropout."""
    if tag is not torch.Tag.nondeterministic_seeded:
        return False
    names = [a.name for a in operation._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return "dropout_p" in names and not given.get("dropout_p")


def _told(reason: str) -> str:
    """With the line of Python that asks for it: the last one that is not torch's."""
    ours = [
        f
        for f in traceback.extract_stack()
        if "/torch/" not in f.filename and f.filename != __file__ and f.line
    ]
    place = f"{Path(ours[-1].filename).name}, line {ours[-1].lineno}: " if ours else ""
    return f"{place}{reason}"
