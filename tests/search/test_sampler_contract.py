"""Every registered sampler keeps the contract that others can inherit."""

from __future__ import annotations

from automl.search.catalogue import CATALOGUE, Setting, sampler
from automl.search.paired import Sampler
from automl.space.tree import Space
from automl.testing.samplers import SamplerContract

NAMES = [
    *(name for name, entry in CATALOGUE.items() if entry.sampler and not entry.stops),
    *(f"{name}:{o}" for name, entry in CATALOGUE.items() for o in entry.options),
]


class Registered(SamplerContract):
    """The sampler of the strategy called `name`."""

    name = ""

    def make(self, space: Space, *, seed: int) -> Sampler:
        return sampler(self.name, Setting(space, seed=seed, workers=3, budget=40.0))


for _name in NAMES:
    _title = "Test_" + _name.replace(":", "_")
    globals()[_title] = type(_title, (Registered,), {"name": _name, "__module__": __name__})
