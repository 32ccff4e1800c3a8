"""Randomness that belongs to a trial: a hash of (seed, step, site, index), never a running state.

A member's numbers depend on its own seed and step, not on the pack that it trains in, the process
or what was drawn before; a resumed training draws what the unbroken one would have drawn. The
hash is Murmur3's 32-bit finalizer, twice, in int64 arithmetic kept to 32 bits.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (the idea of counters).
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _mixed(x: Tensor) -> Tensor:
    """Murmur3's finalizer on 32-bit values held in int64, in place."""
    x ^= x >> 16
    x *= 0x85EBCA6B
    x &= _MASK
    x ^= x >> 13
    x *= 0xC2B2AE35
    x &= _MASK
    x ^= x >> 16
    return x


def mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers; the same in every process."""
    state = 0x9E3779B97F4A7C15
    for n in numbers:
        state = (state ^ (n & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
        state = state * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 29
    return state >> 1


class KeyedDraws:
    """`Draws` of one step: the members' seeds and update counts decide, each call is a new site."""

    def __init__(self, seeds: list[int], updates: list[int], device: torch.device) -> None:
        self._keys = list(zip(seeds, updates, strict=True))
        self._device = device
        self._site = 0

    def _hashes(self, n: int) -> Tensor:
        """[k, n] int64 in [0, 2^32)."""
        self._site += 1
        seeds = [mix(seed, update, self._site) for seed, update in self._keys]
        low = torch.tensor([[s & _MASK] for s in seeds], device=self._device)
        high = torch.tensor([[s >> 31 & _MASK] for s in seeds], device=self._device)
        counter = torch.arange(n, device=self._device)[None, :] * 0x9E3779B1
        return _mixed(_mixed((counter + low) & _MASK) ^ high)

    def uniform(self, *shape: int) -> Tensor:
        bits = self._hashes(math.prod(shape)) >> 8  # 24 bits: what a float32 in [0, 1) can hold
        return (bits * 2.0**-24).to(torch.float32).view(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        radius = (-2 * torch.log1p(-self.uniform(*shape))).sqrt()
        return radius * torch.cos(2 * math.pi * self.uniform(*shape))

    def beta(self, alpha: Tensor) -> Tensor:
        self._site += 1
        values = [
            [random.Random(mix(seed, update, self._site)).betavariate(a, a)]
            for (seed, update), (a,) in zip(self._keys, alpha.tolist(), strict=True)
        ]
        return torch.tensor(values, device=self._device, dtype=torch.float32)

    def permutation(self, n: int) -> Tensor:
        return torch.argsort(self._hashes(n), dim=1, stable=True)


class DataOrder:
    """Which samples a member sees at which update: a new permutation each epoch.

    Batches follow each other through the epochs without a gap, so every sample comes once an
    epoch, no batch is ragged, and a data set smaller than a batch is simply walked several times.
    """

    def __init__(self, samples: int, *, seed: int) -> None:
        self._n = samples
        self._seed = seed
        self._epochs: dict[int, Tensor] = {}

    def batch(self, update: int, size: int) -> Tensor:
        """Indices [size] int64 of the samples of this update."""
        parts: list[Tensor] = []
        place, left = update * size, size
        while left:
            epoch, offset = divmod(place, self._n)
            part = self._epoch(epoch)[offset : offset + left]
            parts.append(part)
            place, left = place + len(part), left - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            generator = torch.Generator().manual_seed(mix(self._seed, epoch, ORDER))
            order = torch.randperm(self._n, generator=generator)
            self._epochs = {e: o for e, o in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = order
        return self._epochs[epoch]


# What a seed is mixed with, so that no two uses share their numbers.
ORDER, INITIAL, FORWARD = 101, 102, 103
