"""Random numbers that depend on (trial seed, step, site) and on nothing else.

    key  = splitmix64 chained over the seed and the names of the place and the step
    bits = a 32-bit integer hash of (index, key), elementwise, on any device

A trial therefore draws the same numbers in any pack, in any process, on any device (up to the last
bits of log and cos in `normal`), and a resumed training draws what the unbroken one would have
drawn. Two rounds: the first scatters the index under one half of the key, the second adds the
other half, so that two keys never give shifted or permuted copies of one sequence.
Source: Steele et al. 2014, doi:10.1145/2660193.2660195 (splitmix64); constants of the 32-bit
hash: C. Wellons, github.com/skeeto/hash-prospector, "lowbias32".
"""

from __future__ import annotations

import copy
import math
import random
import sys
import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_U64 = (1 << 64) - 1


def mix(*parts: int | str) -> int:
    """A key of 64 bits for what `parts` name: `mix(seed, "order", epoch)`."""
    key = 0
    for part in parts:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        key = _scramble(key ^ (number & _U64))
    return key


def _scramble(z: int) -> int:
    z = (z + _GOLDEN) & _U64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _U64
    return z ^ (z >> 31)


def seed_torch(key: int, device: torch.device | None = None) -> None:
    """Set torch's global generator, of the CPU and of `device`, to `key`.

    What the user's modules draw is keyed in this way; `nn.Dropout` by `keyed_dropout.py`.
    """
    # torch.manual_seed formats a stack trace on each call while CUDA is not in use: 50 us.
    torch.default_generator.manual_seed(key)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(key)


def seed_all(key: int) -> None:
    """Set the global generators of Python, numpy and torch, for code that is not ours."""
    random.seed(key)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(key & 0xFFFFFFFF)
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(key)


Given = Callable[[Callable[[], Sequence[Tensor]]], Sequence[Tensor]]
"""Hands on the tensors that its argument makes: see `Inputs`."""


class Bits:
    """Random bits hashed from keys; keeps the indices, so that a CUDA graph finds them again.

    Constants are tensors, too: torch makes one of each of Python's numbers, which takes longer
    than to hash some hundred of them.
    """

    def __init__(self, device: torch.device | str) -> None:
        def number(value: int) -> Tensor:
            return torch.tensor(value, dtype=torch.int32, device=device)

        self.device = torch.device(device)
        self._indices: dict[int, Tensor] = {}
        self._first, self._second = number(0x7FEB352D), number(0x846CA68B - (1 << 32))
        # How far to shift, and the bits that a shift leaves.
        self._by = {by: (number(by), number((1 << (32 - by)) - 1)) for by in (15, 16)}

    def __call__(
        self, first: Tensor | int, second: Tensor | int, n: int, at: Tensor | int = 0
    ) -> Tensor:
        """[k, n] int32, all 32 bits random, from the index `at` on.

        Of both halves of k keys, [k, 1] int32 each, or of one.
        """
        index = self._indices.get(n)
        if index is None:
            index = torch.arange(n, dtype=torch.int32, device=self.device).unsqueeze(0)
            self._indices[n] = index
        x = (index + at if isinstance(at, Tensor) or at else index) ^ first
        self._fold(x, 16).mul_(self._first)
        self._fold(x, 15).mul_(self._second)
        self._fold(x, 16).add_(second)
        self._fold(x, 16).mul_(self._first)
        return self._fold(x, 15)

    def _fold(self, x: Tensor, by: int) -> Tensor:
        """x ^= x >> by, the shift filling with zeros (torch's own copies the sign)."""
        shift, rest = self._by[by]
        return x.bitwise_xor_(x.bitwise_right_shift(shift).bitwise_and_(rest))


class _Stream:
    """Keys of one member's draws: a site each."""

    def __init__(self, base: int) -> None:
        self.base = self.key = base
        self.site = 0


class KeyedDraws:
    """The `Draws` of a pack: call `at(step)`, then each call of a method is a new site.

    given: hands on what the host makes for a step; by default, as it is made.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
        given: Given | None = None,
    ) -> None:
        self._given = given
        self._streams = [_Stream(mix(seed, "draws")) for seed in seeds]
        self._device = torch.device(device)
        self._hashed = Bits(device)

    def at(self, steps: int | Sequence[int]) -> KeyedDraws:
        """Begin the draws of one step: of the same for all members, or of each one's own."""
        each = [steps] * len(self._streams) if isinstance(steps, int) else steps
        for stream, step in zip(self._streams, each, strict=True):
            stream.key, stream.site = _scramble(stream.base ^ step), 0
        return self

    def part(self, members: Sequence[int]) -> KeyedDraws:
        """The draws of these members alone: their sites go on, the others' stand still."""
        if len(members) == len(self._streams):
            return self
        part = copy.copy(self)
        part._streams = [self._streams[k] for k in members]
        return part

    def uniform(self, *shape: int) -> Tensor:
        return self._unit(math.prod(shape)).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        # Box and Muller; 1 - u lies in (0, 1], so that the logarithm is finite.
        n = math.prod(shape)
        radius, angle = self._unit(n, sites=2).chunk(2)
        radius.neg_().log1p_().mul_(-2).sqrt_()
        angle.mul_(2 * math.pi).cos_()
        return radius.mul_(angle).view(-1, *shape)

    def beta(self, alpha: Tensor) -> Tensor:
        keys, known = self._next(), list[list[float]]()

        def make() -> list[Tensor]:
            if not known:
                known.extend(alpha.tolist())
            values = [
                [random.Random(key).betavariate(a, a)]
                for key, (a,) in zip(keys(), known, strict=True)
            ]
            return [torch.tensor(values, device=self._device)]

        return self._handed(make)[0]

    def permutation(self, n: int) -> Tensor:
        return self._bits(n).argsort(dim=1, stable=True)

    def _unit(self, n: int, sites: int = 1) -> Tensor:
        bits = self._bits(n, sites)
        return bits.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).float().mul_(2**-24)

    def _next(self) -> Callable[[], list[int]]:
        """How the keys of a new site are made, for the step that stands when they are."""
        for stream in self._streams:
            stream.site += 1
        sites = [(stream, stream.site) for stream in self._streams]
        return lambda: [_scramble(stream.key ^ site) for stream, site in sites]

    def _bits(self, n: int, sites: int = 1) -> Tensor:
        """[sites * k, n] int32, all 32 bits random: k members' at one site, then at the next."""
        each = [self._next() for _ in range(sites)]

        def keys() -> list[int]:
            return [key for site in each for key in site()]

        if self._given is None and len(self._streams) * sites == 1:
            return self._hashed(*halves(*keys()), n)
        first, second = self._handed(lambda: self._words(keys()))
        return self._hashed(first, second, n)

    def _handed(self, make: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        return make() if self._given is None else self._given(make)

    def _words(self, keys: list[int]) -> Sequence[Tensor]:
        """Both halves of the keys, [k, 1] int32 each."""
        words = torch.tensor([halves(key) for key in keys], dtype=torch.int32, device=self._device)
        return words[:, :1], words[:, 1:]


def halves(key: int) -> tuple[int, int]:
    """Both words of a key, as 32-bit integers with a sign."""
    low, high = key & 0xFFFFFFFF, key >> 32
    return low - ((low >> 31) << 32), high - ((high >> 31) << 32)
