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
            (mask,) = _masks(self.passing.take(_words(x.numel())), least, scale, x)
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


class Masks:
    """The masks of k members in the uses of a pass; what no pass changes is made once.

    Members of rate 0 in all uses draw nothing.

    Args:
        sizes: samples of each member's batch; batches are as large as the largest of them.
    """

    def __init__(
        self, modules: Sequence[nn.Module], uses: Sequence[Use], bits: Bits, sizes: Sequence[int]
    ) -> None:
        self._uses, self._bits, self._size = uses, bits, len(modules)
        layers = [[m.get_submodule(use.name) for use in uses] for m in modules]
        odds = [[threshold(float(layer.p)) for layer in own] for own in layers]  # type: ignore[arg-type]
        self._drawing = [k for k, own in enumerate(odds) if any(own)]
        self._rows = torch.tensor(self._drawing, device=bits.device)
        t = torch.tensor([odds[k] for k in self._drawing])
        least = (t.clamp(max=_ODDS - 1) - _ODDS // 2).to(bits.device, torch.int16)
        scale = torch.where(t < _ODDS, _ODDS / (_ODDS - t).double(), 0.0)
        scales = [column.to(use.like) for column, use in zip(scale.split(1, 1), uses, strict=True)]
        self._chances = list(zip(least.split(1, 1), scales, strict=True))
        # Where a use's words lie in the row that is hashed, in which no member skips a use or has
        # fewer samples; and how far before that they lie in the member's own pass.
        self._counts = [_words(use.like.numel()) for use in uses]
        counts = torch.tensor(self._counts)
        whole = max(sizes)
        each = [[_words(_numel(use.like, sizes[k], whole)) for use in uses] for k in self._drawing]
        own = torch.where(t > 0, torch.tensor(each), 0)
        behind = (own.cumsum(1) - own) - (counts.cumsum(0) - counts)
        at = behind.repeat_interleave(counts, 1).to(bits.device, torch.int32)
        self._at = at if bool(behind.any()) else 0

    def words(self, keys: Sequence[int]) -> Tensor:
        """All that the host says of a pass: both halves of the keys, [2, n, 1] int32."""
        pairs = [halves(keys[k]) for k in self._drawing]
        words = list(zip(*pairs, strict=True))
        return torch.tensor(words, dtype=torch.int32, device=self._rows.device).unsqueeze(-1)

    def of(self, words: Tensor) -> list[Tensor]:
        """The masks [k, ...] of each use."""
        drawn = self._bits(words[0], words[1], sum(self._counts), self._at)
        parts, found = drawn.split(self._counts, 1), []
        for use, part, chance in zip(self._uses, parts, self._chances, strict=True):
            like, mask = use.like, _masks(part, *chance, use.like)
            if len(self._drawing) < self._size:
                mask = like.new_ones(self._size, *like.shape).index_copy_(0, self._rows, mask)
            found.append(mask)
        return found


def threshold(rate: float) -> int:
    """Of 65536 numbers, those that are dropped."""
    return round(_ODDS * rate)


def _masks(drawn: Tensor, least: Tensor | int, scale: Tensor | float, like: Tensor) -> Tensor:
    """[k, ...] from words [k, n]."""
    r = drawn.view(torch.int16)[:, : like.numel()]
    kept = torch.ge(r, least, out=like.new_empty(r.shape))  # 1 and 0 at once, not by way of bool
    return kept.mul_(scale).view(-1, *like.shape)


def _words(numbers: int) -> int:
    return -(-numbers // 2)


def _numel(like: Tensor, size: int, whole: int) -> int:
    """Numbers of a tensor for batches of `whole` samples that belong to the first `size`."""
    batched = like.ndim > 0 and len(like) == whole
    return like[:size].numel() if batched else like.numel()
