"""The outputs of all members of a pack on the same samples, as one traced program.

    vmap over members of the model in evaluation mode, traced (`tape.py`)

A small network spends most of an evaluation on overhead, which the pack pays once. Traces are kept
by structure, number of members and shape of the samples. Each is checked when it is made: its
outputs must be those of the members one by one. What cannot be traced, or gives something else,
is evaluated one by one from then on, and `reason` says why.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from automl.train.declining import worded
from automl.train.fingerprint import fingerprint
from automl.train.step import Program
from automl.train.tape import taped

_KEPT = 32  # traces; lists of operations, no tensors of the size of the weights
# Of the largest output: rounding, and no more.
_AGREES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}

Traced = Callable[..., Tensor]


class Together:
    """Evaluates the members of one program together, as long as that works.

    size: of the pack; reason: why they are evaluated one by one, "" while they are not.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        packed = program.packed
        structure, self._task = program.recipes[0].padded, program.task
        self._key = (
            id(self._task), structure, fingerprint(packed.modules[0]), len(packed.modules),
            packed.w.dtype, packed.w.device, packed.layout,
        )  # fmt: skip
        self.size = len(packed.modules)
        self.reason = "" if _is_one_program(packed.modules) else "members differ in their models"

    def outputs(self, x: Tensor) -> Tensor | None:
        """Outputs [k, n, ...] of all modules, as they evaluate x [n, ...]; None: see `reason`.

        The modules' present weights and buffers count.
        """
        if self.reason:
            return None
        key = (*self._key, x.shape, x.stride(), x.dtype)
        if key not in _TRACES:
            made = self._made(x)
            while len(_TRACES) >= _KEPT:
                _TRACES.popitem(last=False)
            _TRACES[key] = self._task, made  # with the task, whose id stays its own
        _TRACES.move_to_end(key)
        found = _TRACES[key][1]
        if isinstance(found, str):
            self.reason = found
            return None
        return found(*self._weights(), x)

    def _weights(self) -> list[Tensor]:
        packed = self._program.packed
        return [*packed.views, *packed.stacked.values()]

    def _made(self, x: Tensor) -> Traced | str:
        packed, precision = self._program.packed, self._program.precision
        model = copy.deepcopy(packed.modules[0]).eval()
        names = [*(slot.name for slot in packed.layout.slots), *packed.stacked]

        def member(weights: list[Tensor], x: Tensor) -> Tensor:
            with precision():
                out: Tensor = functional_call(model, dict(zip(names, weights, strict=True)), (x,))
            return out

        def whole(*tensors: Tensor) -> Tensor:
            *weights, samples = tensors
            each: Tensor = vmap(member, in_dims=(0, None))(weights, samples)
            return each

        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # What a model does to its buffers while it is traced must not reach the members.
                buffers = [b.clone() for b in packed.stacked.values()]
                traced: Traced = taped(whole)(*packed.views, *buffers, x).program()
                return self._differs(traced, x) or traced
        except Exception as error:
            return worded(error)

    def _differs(self, traced: Traced, x: Tensor) -> str:
        """Why the traced outputs are not those of the members one by one; "" where they are."""
        found = traced(*self._weights(), x)
        precision = self._program.precision
        for own, module in zip(found, self._program.packed.modules, strict=True):
            with precision():
                alone = module(x)
            far = (own - alone).abs().max() / alone.abs().max().clamp_min(1e-12)
            if own.shape != alone.shape or (
                torch.isfinite(alone).all() and not far <= _AGREES[alone.dtype]
            ):
                return f"evaluated together, the model gives other outputs (by {far.item():.0e})"
        return ""


def _is_one_program(modules: Sequence[nn.Module]) -> bool:
    first, *others = (fingerprint(m) for m in modules)
    return all(other == first for other in others)


_TRACES: OrderedDict[Hashable, tuple[object, Traced | str]] = OrderedDict()
