"""What an update is given by the host, in memory that may stay where it is.

An update is a program of the device but for this: which samples it takes, where the schedules
stand, the keys of its random draws, masks that generators of torch have drawn. All of it comes
through `Inputs`, which is told how each thing is made:

    anew      made where it is asked for
    recorded  the same, and how it is made is remembered, in the order of asking
    kept      what `refresh` has made before, in the same memory as last time

Kept inputs let a CUDA graph, which replays the same operations on the same memory, train on other
samples each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

Make = Callable[[], Sequence[Tensor]]
"""Tensors of the same shapes at every call, for the update that stands next."""


class Inputs:
    """The inputs of the updates of one program."""

    def __init__(self) -> None:
        self._how: Literal["anew", "recorded", "kept"] = "anew"
        self._made: list[tuple[Make, list[Tensor]]] = []
        self._next = 0

    def __call__(self, make: Make) -> Sequence[Tensor]:
        """What `make` gives, or has given."""
        if self._how == "anew":
            return make()
        if self._how == "recorded":
            self._made.append((make, [x.clone() for x in make()]))
            return self._made[-1][1]
        self._next += 1
        return self._made[self._next - 1][1]

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Within it an update says what it needs."""
        self._made.clear()
        yield from self._while("recorded")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within it an update gets what it needs, as `refresh` has left it."""
        yield from self._while("kept")

    def refresh(self) -> None:
        """Make all inputs anew, in their place, for the update that stands next."""
        for make, kept in self._made:
            torch._foreach_copy_(kept, list(make()))

    def forget(self) -> None:
        self._made.clear()

    def _while(self, how: Literal["recorded", "kept"]) -> Iterator[None]:
        self._how, self._next = how, 0
        try:
            yield
        finally:
            self._how = "anew"
