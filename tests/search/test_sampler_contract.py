"""Every registered sampler keeps the contract that others can inherit."""

from __future__ import annotations

import math
import warnings

import numpy as np
import optuna
import pytest

from automl.errors import StrategyError
from automl.search.catalogue import CATALOGUE, Setting, sampler
from automl.search.paired import Alike, Sampler
from automl.search.wrapping import ManyLosses
from automl.space.tree import Point, Space
from automl.testing.samplers import (
    LINE,
    TREE,
    ManyLossesContract,
    SamplerContract,
    drive,
    drive_many,
)

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
    _kind = Evolved if _name in ("tpe", "nsga2", "nsga3") else Registered
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


@pytest.mark.parametrize("name", ["TPESampler", "NSGAIISampler"])
def test_an_optuna_sampler_takes_the_steps_that_it_takes_in_optuna(name: str) -> None:
    ours = sampler(f"optuna:{name}", Setting(LINE, seed=4))
    arguments = {"multivariate": True, "group": True, "constant_liar": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(optuna.samplers, name)(
            seed=4, **(arguments if name == "TPESampler" else {})
        )
    study = optuna.create_study(sampler=theirs)
    for number in range(60):
        x = ours.suggest(number).point["x"]
        trial = study.ask()
        assert x == LINE["x"].range.decode(trial.suggest_float("x", 0.0, 1.0))
        assert isinstance(x, float)
        ours.observe(number, abs(x - 0.3))
        study.tell(trial, abs(x - 0.3))


@pytest.mark.parametrize("name", ["TPESampler", "NSGAIISampler", "QMCSampler"])
def test_optuna_takes_several_losses_and_broken_constraints(name: str) -> None:
    made = sampler(f"optuna:{name}", Setting(TREE, seed=0, several=("minimize", "maximize")))
    points = drive_many(made, trials=30, broken=0.5)
    assert len({tuple(p.items()) for p in points}) > 15


def test_optuna_hears_of_broken_constraints() -> None:
    keeping = sampler("optuna:TPESampler", Setting(LINE, seed=0, several=("minimize",)))
    assert isinstance(keeping, ManyLosses)
    seen = []
    for number in range(60):  # the best loss lies at 0, where the constraint is broken
        x = keeping.suggest(number).point["x"]
        assert isinstance(x, float)
        seen.append(x)
        keeping.observe_losses(number, (x,), max(0.5 - x, 0.0))
    assert sum(0.4 < x < 0.7 for x in seen[30:]) > 20  # of chance's nine


def test_an_optuna_sampler_keeps_what_is_fixed_and_says_what_it_lacks() -> None:
    made = sampler("optuna:CmaEsSampler", Setting(TREE, seed=0))
    assert isinstance(made, Alike)
    for number in range(30):
        fixed: Point = {"optimizer": "sgd", "batch_size": 128}
        point = made.suggest_like(number, fixed).point
        TREE.validate(point)
        assert {**point, **fixed} == point
        made.observe(number, math.inf if number % 3 == 0 else float(number))
    with pytest.raises(StrategyError, match="no sampler 'TPESample'; nearest: 'TPESampler'"):
        sampler("optuna:TPESample", Setting(TREE))
    alone = sampler("optuna:CmaEsSampler", Setting(TREE, several=("minimize", "minimize")))
    with pytest.raises(StrategyError, match="Optuna's CmaEsSampler gave up: "):
        for number in range(30):
            alone.suggest(number)
