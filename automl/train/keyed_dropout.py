"""Dropout whose masks are hashed, for one member or for all members of a pack at once.

    words = 32 bits each, hashed from (key of the member's pass, index)
    r     = 16 bits a number; each use of a layer takes the words that come next in the pass
    mask  = (r >= t) * 65536 / (65536 - t),  t = round(65536 * rate)

A member's masks depend on nothing but the member, as those of `nn.Dropout` under a seed of its own
do; but those of all members are drawn by a few elementwise operations, where torch's generators
draw one member after the other. A rate is met to 1/131072, and the mean of a mask is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from automl.train.seeding import Bits, halves

_ODDS = 1 << 16
_AHEAD = 1 << 18  # words that one model draws at once; of more, each use its own


class Passing:
    """The words of one model's pass; opaque, so no part of a fingerprint."""

    __slots__ = ("_at", "_bits", "_drawn", "_first", "_halves", "_last")

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        self.begin(0)

    def begin(self, key: int) -> None:
        # A small network draws all that its last pass took at once: overhead is what it pays for.
        self._last = min(getattr(self, "_at", 0), _AHEAD)
        self._halves, self._at, self._first = halves(key), 0, 0
        self._drawn: Tensor | None = None

    def take(self, n: int) -> Tensor:
        """The next n words [1, n]."""
        at, self._at = self._at, self._at + n
        if self._drawn is None or self._at - self._first > self._drawn.shape[1]:
            self._first = at
            self._drawn = self._bits(*self._halves, max(n, self._last - at), at)
        return self._drawn[:, at - self._first : self._at - self._first]


class KeyedDropout(nn.Dropout):
    """An `nn.Dropout` in a model that we train."""

    passing: Passing

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        with torch.no_grad():
            t = threshold(self.p)
            scale = _ODDS / (_ODDS - t) if t < _ODDS else 0.0
            least = min(t, _ODDS - 1) - _ODDS // 2
            (mask,) = _masks(self.passing.take(_words(x)), least, scale, x)
        out: Tensor = x * mask
        return out


def keyed(module: nn.Module, bits: Bits) -> Passing:
    """Let each `nn.Dropout` of a module draw by keys, in place; `begin` says by which."""
    passing = Passing(bits)
    for layer in module.modules():
        if type(layer) is nn.Dropout:
            layer.__class__ = KeyedDropout
        if isinstance(layer, KeyedDropout):
            layer.passing = passing
    return passing


@dataclass(frozen=True)
class Use:
    """A use of the dropout layer `name` in a pass; `like` has its input's shape and type."""

    name: str
    like: Tensor


def words_of(
    modules: Sequence[nn.Module], keys: Sequence[int], uses: Sequence[Use], device: torch.device
) -> Tensor:
    """All that the host says of the masks of k members in u uses, [u, 4, k, 1] int32.

    Both halves of the key, the first word, the threshold.
    """
    both, at = [halves(key) for key in keys], [0] * len(keys)
    lows, highs, words = [low for low, _ in both], [high for _, high in both], []
    for use in uses:
        t = [threshold(float(m.get_submodule(use.name).p)) for m in modules]  # type: ignore[arg-type]
        words.append([lows, highs, list(at), t])
        count = _words(use.like)
        at = [a + (count if own else 0) for a, own in zip(at, t, strict=True)]
    return torch.tensor(words, dtype=torch.int32, device=device).unsqueeze(-1)


def masks_of(words: Tensor, uses: Sequence[Use], bits: Bits) -> list[Tensor]:
    """The masks [k, ...] of each use."""
    found = []
    for (low, high, at, t), use in zip(words, uses, strict=True):
        least = (t.clamp(max=_ODDS - 1) - _ODDS // 2).to(torch.int16)
        scale = torch.where(t < _ODDS, _ODDS / (_ODDS - t).double(), 0.0).to(use.like.dtype)
        drawn = bits(low, high, _words(use.like), at)
        found.append(_masks(drawn, least, scale, use.like))
    return found


def threshold(rate: float) -> int:
    """Of 65536 numbers, those that are dropped."""
    return round(_ODDS * rate)


def _masks(drawn: Tensor, least: Tensor | int, scale: Tensor | float, like: Tensor) -> Tensor:
    """[k, ...] from words [k, n]."""
    r = drawn.view(torch.int16)
    if r.shape[1] > like.numel():
        r = r[:, : like.numel()]
    return (r >= least).to(like.dtype).mul_(scale).view(-1, *like.shape)


def _words(x: Tensor) -> int:
    return -(-x.numel() // 2)
