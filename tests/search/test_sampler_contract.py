"""Every registered sampler keeps the contract that others can inherit."""

from __future__ import annotations

import numpy as np
import pytest

from automl.errors import StrategyError
from automl.search.catalogue import CATALOGUE, Setting, sampler
from automl.search.paired import Sampler
from automl.space.tree import Space
from automl.testing.samplers import TREE, ManyLossesContract, SamplerContract, drive

SLOW = ("pso", "nevergrad")  # as `de` but for what Nevergrad draws; see the last test
NAMES = [
    *(n for n, e in CATALOGUE.items() if e.sampler and not e.stops and n not in SLOW),
    "bohb",
    *(f"{name}:{o}" for name, entry in CATALOGUE.items() for o in entry.options),
]


class Registered(SamplerContract):
    """The sampler of the strategy called `name`."""

    name = ""

    def make(self, space: Space, *, seed: int) -> Sampler:
        return sampler(self.name, Setting(space, seed=seed, workers=3, budget=40.0))


class Evolved(Registered, ManyLossesContract):
    """One that takes several losses as they are."""


for _name in NAMES:
    _title = "Test_" + _name.replace(":", "_")
    _kind = Evolved if _name.startswith("nsga") else Registered
    globals()[_title] = type(_title, (_kind,), {"name": _name, "__module__": __name__})


@pytest.mark.parametrize(
    "name", ["pso", "nevergrad:NGOpt", "nevergrad:CMA", "nevergrad:NelderMead"]
)
def test_nevergrad_repeats_itself_whatever_others_draw(name: str) -> None:
    searches = []
    for luck in (0, 1):
        np.random.seed(luck)  # some of its optimizers draw from there
        made = sampler(name, Setting(TREE, seed=0, workers=3, budget=20.0))
        searches.append(drive(made, TREE, trials=12))
        after = np.random.random()
        np.random.seed(luck)
        assert after == np.random.random()  # the caller's luck is its own
    assert searches[0] == searches[1]


def test_an_optimizer_that_nevergrad_lacks_is_refused_with_the_nearest() -> None:
    with pytest.raises(StrategyError, match="no optimizer 'NGOptt'; nearest: 'NGOpt'"):
        sampler("nevergrad:NGOptt", Setting(TREE))
