"""Layers that a pack computes otherwise than a single model, with the same results.

Dropout        multiplies with masks that come from outside, each member's own
Conv2d, pooling, BatchNorm      one call for all members (`side_by_side.py`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.train.keyed_dropout import KeyedDropout
from automl.train.side_by_side import put_side_by_side

# Of whole features: few numbers, drawn by torch.
_FEATURES: dict[type[nn.Module], Callable[[Tensor, float, bool], Tensor]] = {
    nn.Dropout1d: F.dropout1d,
    nn.Dropout2d: F.dropout2d,
    nn.Dropout3d: F.dropout3d,
}
_DROPOUTS = (KeyedDropout, *_FEATURES)


class Sites:
    """The uses of dropout layers in one forward pass, in order, and their masks."""

    __slots__ = ("_masks", "_next", "_recording", "uses")  # opaque: no part of a fingerprint

    def __init__(self) -> None:
        self.uses: list[tuple[str, Tensor]] = []  # layer, ones of its input's shape and strides
        self._masks: Sequence[Tensor] = ()
        self._next = 0
        self._recording = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within it a forward pass tells where masks are wanted."""
        self._recording = True
        yield
        self._recording = False

    @contextmanager
    def using(self, masks: Sequence[Tensor]) -> Iterator[None]:
        """Within it a forward pass multiplies with these masks."""
        self._masks, self._next = masks, 0
        yield
        self._masks = ()

    def apply(self, name: str, x: Tensor) -> Tensor:
        if self._recording:
            self.uses.append((name, torch.ones_like(x)))
            return x
        self._next += 1
        return x * self._masks[self._next - 1]

    @staticmethod
    def draw(layer: nn.Module, ones: Tensor, mask: Tensor) -> None:
        """Fill `mask` with what `layer` multiplies its input with; torch draws as for the input."""
        rate = _rate(layer)
        if rate == 0:
            mask.fill_(1)  # and nothing is drawn, as for the input
        else:
            mask.copy_(_FEATURES[type(layer)](ones, rate, True))


def _rate(layer: nn.Module) -> float:
    rate = layer.p
    assert isinstance(rate, float | int)
    return float(rate)


class _Masked(nn.Module):
    def __init__(self, name: str, sites: Sites, rate: float) -> None:
        super().__init__()
        self._name, self._sites = name, sites
        self.p = rate  # a model may skip a layer whose rate is 0

    def forward(self, x: Tensor) -> Tensor:
        return self._sites.apply(self._name, x) if self.p else x


def dropout_rates(models: Sequence[nn.Module]) -> dict[str, float]:
    """The largest rate of each dropout layer among models of one structure."""
    names = [n for n, m in models[0].named_modules() if type(m) in _DROPOUTS]
    return {n: max(_rate(m.get_submodule(n)) for m in models) for n in names}


def substituted(
    model: nn.Module, sites: Sites, rates: Mapping[str, float], *, images: bool = True
) -> nn.Module:
    """The model, changed in place: its layers of the kinds above replaced.

    Dropout layers of rate 0 among all members (`dropout_rates`) are left out; so is what lays out
    images in a way of its own, unless `images`.
    """
    layers = dict(model.named_modules())
    masked = {
        layer: _Masked(name, sites, rates[name])
        for name, layer in layers.items()
        if name and type(layer) in _DROPOUTS
    }
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if layer in masked:  # in each of its places
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, masked[layer])
    for layer in layers.values():
        put_side_by_side(layer, images=images)
    return model
