"""An update as one CUDA graph: captured once, then replayed with other inputs.

    launching     some 6 us of the host for each of an update's 50 to 500 small operations
    replaying     one launch for all of them

Captured are the operations and the memory that they work on: weights, optimizer states, buffers
and the inputs (`inputs.py`) stay where they are, and whoever takes a slot of the pack gets a graph
of his own company. The first update is a plain one. It says what the inputs are, and the replay
is held beside it, from the same state: where they differ by more than rounding, or an update needs
the host (`hostless.py`), or the capture fails, updates go on as plain ones; `reason` says why.

On a CPU there is nothing to capture: there the very function that would be captured is called with
the same inputs, which is what the tests of this engine stand on.

Source: docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs" (a side stream, static memory).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from automl.train.hostless import Hostless
from automl.train.inputs import Inputs

# Of the largest number of a tensor: rounding, in sums whose order a GPU leaves open.
_AGREES = {torch.float64: 1e-9, torch.float32: 1e-3}

Update = Callable[[], Tensor]
"""Makes one update in place; the losses [k]."""


class Graphed:
    """Called, it makes one update.

    Args:
        update: the plain one; asks `inputs` for all that the host says.
        held: the tensors that an update changes, each in its own memory.
        reason: why no graph is to be tried.

    reason: why updates are plain ones, "" while they are not.
    """

    def __init__(
        self,
        update: Update,
        inputs: Inputs,
        held: Callable[[], list[Tensor]],
        device: torch.device,
        reason: str = "",
    ) -> None:
        self._update, self._inputs, self._held, self._device = update, inputs, held, device
        self._replay: Update | None = None
        self.reason = reason

    def __call__(self) -> Tensor:
        if self._replay is None:
            return self._first()
        self._inputs.refresh()
        return self._replay()

    def release(self) -> None:
        """Give back the graph and its memory; the next update would make another."""
        self._replay = None
        self._inputs.forget()

    def _first(self) -> Tensor:
        """A plain update, and the others from then on."""
        if self.reason:
            self._decline(self.reason)
            return self._update()
        held = self._held()
        before = [x.clone() for x in held]
        with self._inputs.recorded():
            loss = self._update()
        expected = [x.clone() for x in (loss, *self._held())]
        try:
            if any(a is not b for a, b in zip(held, self._held(), strict=True)):
                raise RuntimeError("a method keeps its state in other memory after each update")
            torch._foreach_copy_(held, before)
            replay = self._made()
            torch._foreach_copy_(held, before)
            self._compare([replay(), *held], expected)
            self._replay = replay
        except Exception as error:  # of any class: torch's, CUDA's, ours
            self._decline((str(error).strip() or repr(error)).splitlines()[0])
        # The plain update's numbers are those that count, whatever came after it.
        torch._foreach_copy_(self._held(), expected[1:])
        return expected[0]

    def _decline(self, reason: str) -> None:
        self.reason, self._replay = reason, self._update
        self._inputs.forget()
        warnings.warn(f"no CUDA graph: {reason}", stacklevel=3)

    def _made(self) -> Update:
        """A replay, ready; its making has changed what is held."""
        if self._device.type != "cuda":
            with Hostless():
                self._again()
            return self._again
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream), Hostless():
            self._again()  # what libraries do at a first call on this stream is not captured
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of this process (readers of data) may go on meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            loss = self._again()

        def replay() -> Tensor:
            graph.replay()
            return loss.clone()

        return replay

    def _again(self) -> Tensor:
        with self._inputs.kept():
            return self._update()

    @staticmethod
    def _compare(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
        for own, plain in zip(found, expected, strict=True):
            if not plain.is_floating_point():
                same = torch.equal(own, plain)
            else:
                known = plain.isfinite() & own.isfinite()
                scale = plain[known].abs().max().clamp_min(1e-30) if known.any() else 1.0
                far = (own - plain)[known].abs() / scale
                same = torch.equal(plain.isfinite(), own.isfinite()) and bool(
                    (far <= _AGREES.get(plain.dtype, 1e-2)).all()
                )
            if not same:
                raise RuntimeError("a replay differs from a plain update")
