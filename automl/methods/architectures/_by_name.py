"""Networks whose edges are given as operations, for whoever knows the operations' names only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from automl.methods.stages import Operation, Shape
from automl.registry import family


def by_name(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """build(shape, place, **hyper), whose `place` is then asked by the names of operations."""

    def named(shape: Shape, place: Callable[..., nn.Module], **hyper: Any) -> nn.Module:
        def at(edge: str, make: Callable[..., nn.Module]) -> nn.Module:
            def made(name: str, **given: Any) -> nn.Module:
                operation = family("operation").get(name)
                assert isinstance(operation, Operation)
                return make(operation.make, **given)

            return place(edge, made)

        return build(shape, at, **hyper)

    return named
