"""Where proxies look into a network: what goes into its activations, and what its inputs become.

Tokens have no gradient; their embeddings stand for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_NONLINEAR = ("torch.nn.modules.activation", "automl.methods.activations")
_NO_ELEMENTS = (nn.MultiheadAttention, nn.Softmax, nn.Softmin, nn.Softmax2d, nn.LogSoftmax)


@contextmanager
def preactivations(net: nn.Module) -> Iterator[list[Tensor]]:
    """Within it each forward pass appends what goes into each activation layer, [b, ...]."""
    seen: list[Tensor] = []
    layers = [
        m
        for m in net.modules()
        if type(m).__module__.startswith(_NONLINEAR) and not isinstance(m, _NO_ELEMENTS)
    ]
    hooks = [m.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for m in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def embedded(net: nn.Module, *, ones: bool = False) -> Iterator[list[Tensor]]:
    """Within it what tokens are embedded as is appended, a leaf with a gradient; or it is ones."""
    seen: list[Tensor] = []

    def replaced(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        if seen:  # of places, or of a second kind
            return None
        seen.append((torch.ones_like(out) if ones else out.detach()).requires_grad_())
        return seen[0]

    hooks = [
        m.register_forward_hook(replaced) for m in net.modules() if isinstance(m, nn.Embedding)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
