"""Keyed random numbers: distributed as they should be, independent, the same everywhere."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from automl.train.seeding import KeyedDraws, mix

N = 20_000
SEEDS = (0, 1, 2, 3, 10**12)


def correlations(rows: Tensor) -> Tensor:
    """Off the diagonal, in units of the standard deviation of chance."""
    apart = (torch.corrcoef(rows) - torch.eye(len(rows))).abs()
    return apart * math.sqrt(rows.shape[1])


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    u = KeyedDraws(SEEDS).at(3).uniform(N).double()
    assert u.shape == (len(SEEDS), N)
    assert u.min() >= 0 and u.max() < 1
    # Chi square of 100 cells for each member: mean 99, deviation 14.
    for row in u:
        counts = torch.histc(row, 100, 0, 1)
        chi = ((counts - N / 100) ** 2 / (N / 100)).sum().item()
        assert 45 < chi < 170


def test_normal_numbers_have_the_moments_of_the_standard_normal() -> None:
    z = KeyedDraws(SEEDS).at(0).normal(N).double()
    # Five deviations of each moment's own error.
    assert z.mean(1).abs().max() < 5 / N**0.5
    assert (z.var(1) - 1).abs().max() < 5 * (2 / N) ** 0.5
    assert (z**3).mean(1).abs().max() < 5 * (15 / N) ** 0.5
    assert ((z**4).mean(1) - 3).abs().max() < 5 * (96 / N) ** 0.5
    assert torch.isfinite(z).all()


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_beta_has_its_mean_and_variance(alpha: float) -> None:
    draws, k = KeyedDraws(range(200)), 200
    given = torch.full((k, 1), alpha)
    values = torch.cat([draws.at(step).beta(given) for step in range(20)]).double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert ((values >= 0) & (values <= 1)).all()
    assert (values.mean() - 0.5).abs() < 5 * (variance / len(values)) ** 0.5
    assert abs(values.var().item() / variance - 1) < 0.1


def test_members_steps_and_sites_are_not_correlated() -> None:
    draws = KeyedDraws(SEEDS)
    rows = [draws.at(0).uniform(N), draws.uniform(N), draws.at(1).uniform(N), draws.uniform(N)]
    # 190 pairs: the largest of so many lies below 4.5 deviations but once in a thousand.
    assert correlations(torch.cat(rows)).max() < 4.5


def test_no_sequence_is_a_piece_of_another_one() -> None:
    rows = KeyedDraws(range(40)).at(0).uniform(500)
    seen = set(rows.flatten().tolist())
    assert len(seen) > 0.995 * rows.numel()  # 24 bits: chance alone makes about 12 of 20,000 equal


def test_permutations_put_every_index_anywhere() -> None:
    draws = KeyedDraws([5])
    places = torch.cat([draws.at(step).permutation(10) for step in range(3000)])
    assert torch.equal(places.sort(1).values, torch.arange(10).expand(3000, 10))
    counts = torch.stack([(places == i).sum(0) for i in range(10)]).double()
    assert (counts - 300).abs().max() < 5 * (300 * 0.9) ** 0.5


def test_a_member_draws_the_same_at_any_place_of_any_pack() -> None:
    for place, pack in enumerate([(7,), (1, 7), (3, 4, 7)]):
        draws, alone = KeyedDraws(pack).at(9), KeyedDraws([7]).at(9)
        assert torch.equal(draws.uniform(5, 2)[place], alone.uniform(5, 2)[0])
        assert torch.equal(draws.permutation(6)[place], alone.permutation(6)[0])
        half = torch.full((len(pack), 1), 0.5)
        assert torch.equal(draws.beta(half)[place], alone.beta(half[:1])[0])
        assert torch.equal(draws.normal(4)[place], alone.normal(4)[0])


def test_another_process_draws_the_same() -> None:
    code = (
        "from automl.train.seeding import KeyedDraws, mix;"
        "d = KeyedDraws([3, 2**70 % 2**64]).at(11);"
        "print(mix(1, 'order', 2), d.uniform(3).tolist(), d.permutation(4).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    d = KeyedDraws([3, 2**70 % 2**64]).at(11)
    assert told.stdout.strip() == (
        f"{mix(1, 'order', 2)} {d.uniform(3).tolist()} {d.permutation(4).tolist()}"
    )


def test_keys_of_other_names_places_and_orders_differ() -> None:
    keys = [mix(1), mix(2), mix(1, "a"), mix(1, "b"), mix("a", 1), mix(1, "a", 0), mix(0, 1)]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)
