"""All strategies by name: what each is made of, what it does, and when to use it.

A name may carry options after a colon, several joined with "+": `cma_es:bipop`,
`quasi_random:halton`; after `nevergrad:` and `optuna:` stands the name of one of their optimizers.
Samplers are imported when a strategy is made: Nevergrad alone costs a second and more, which
random search and --help need not pay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from automl.errors import StrategyError
from automl.registry import nearest
from automl.search.fidelity.asha import Asha, rungs
from automl.search.fidelity.cautious import Cautious
from automl.search.fidelity.freeze_thaw import FreezeThaw
from automl.search.fidelity.full import Full
from automl.search.fidelity.hyperband import Hyperband
from automl.search.fidelity.median import Median
from automl.search.fidelity.ranked import ranked
from automl.search.fidelity.screened import Screened
from automl.search.paired import Paired, Rule, Sampler
from automl.search.prescreen import Pool, Prescreened
from automl.search.prior import Believing
from automl.search.several import Several
from automl.space.tree import Point, Space

if TYPE_CHECKING:
    from automl.search.strategy import Strategy

Fidelity = tuple[int, int, int]  # min_steps, max_steps, eta


@dataclass(frozen=True, slots=True)
class Setting:
    """What every strategy is made from; `budget` in full trainings, None when nobody knows."""

    space: Space
    fidelity: Fidelity = (1, 1, 3)
    maximize: bool = False
    seed: int = 0
    workers: int = 1
    budget: float | None = None
    portfolio: Sequence[Point] | None = None
    pool: Pool | None = None
    early_end: bool = False
    prior: float = 0.0  # strength of what the defaults say, 0 to 1
    options: tuple[str, ...] = ()  # what stood behind the colon
    several: tuple[str, ...] = ()  # directions, where Outcomes are told

    @property
    def shares(self) -> tuple[float, ...]:
        """Rungs as shares of a full training, the last one 1."""
        steps = rungs(*self.fidelity)
        return tuple(step / steps[-1] for step in steps)


@dataclass(frozen=True, slots=True)
class Named:
    """A strategy's entry: a sampler and a fidelity rule, or `whole` where they are one."""

    about: str  # what it does, under 90 characters
    when: str  # one sentence: when to use it
    sampler: Callable[[Setting], Sampler] | None = None
    rule: Callable[[int, int, int], Rule] = Full
    rule_for: Callable[[Setting], Rule] | None = None  # where it depends on more than the rungs
    whole: Callable[[Setting], Strategy] | None = None
    options: tuple[str, ...] = ()
    population: bool = False  # trials are asked for many at a time, whose values are compared later
    free: bool = False  # what stands behind the colon is the sampler's own affair

    @property
    def stops(self) -> bool:
        """Whether trials may end before their training does."""
        return self.rule is not Full or self.whole is not None


def look_up(name: str) -> tuple[Named, tuple[str, ...]]:
    """The entry called `name` and the options that it carries.

    Raises:
        StrategyError: no such strategy, or an option that it does not have.
    """
    base, colon, rest = name.partition(":")
    if base not in CATALOGUE:
        near = nearest(base, CATALOGUE) or f"; there are: {', '.join(CATALOGUE)}"
        raise StrategyError(f"no strategy named '{name}'{near}")
    entry = CATALOGUE[base]
    options = tuple(rest.split("+")) if colon else ()
    for option in () if entry.free else options:
        if option not in entry.options:
            known = ", ".join(entry.options) or "none"
            raise StrategyError(f"{base}: no option '{option}'; there are: {known}")
    return entry, options


def sampler(name: str, setting: Setting) -> Sampler:
    """The sampler of the strategy called `name`.

    Raises:
        StrategyError: an unknown name, or a strategy that is no sampler and rule.
    """
    entry, options = look_up(name)
    if entry.sampler is None:
        raise StrategyError(f"{name} has no sampler of its own")
    return entry.sampler(replace(setting, options=options))


def strategy(name: str, setting: Setting) -> Strategy:
    """The strategy called `name`."""
    entry, options = look_up(name)
    setting = replace(setting, options=options)
    if entry.whole is not None:
        if setting.pool is not None:
            raise StrategyError(f"--prescreen is not for {name}, which keeps its networks")
        if setting.prior:
            raise StrategyError(f"--prior is not for {name}, which draws a population of its own")
        return entry.whole(setting)
    chosen = sampler(name, setting)
    rule = entry.rule_for(setting) if entry.rule_for else entry.rule(*setting.fidelity)
    if setting.prior:  # the screened start is the sampler's own
        chosen = Believing(
            setting.space,
            chosen,
            strength=setting.prior,
            seed=setting.seed,
            full=isinstance(rule, Screened),
        )
    if setting.pool is not None:
        chosen = Prescreened(chosen, setting.pool)
    if setting.several:
        return Several(
            setting.space,
            chosen,
            ranked(entry.rule)(*setting.fidelity),
            steps=setting.fidelity[1],
            directions=setting.several,
            seed=setting.seed,
            marks=rungs(*setting.fidelity),
            early_end=setting.early_end,
        )
    return Paired(
        setting.space,
        chosen,
        rule,
        steps=setting.fidelity[1],
        maximize=setting.maximize,
        seed=setting.seed,
        early_end=setting.early_end,
    )


def _auto(setting: Setting) -> Sampler:
    from automl.search.auto import AutoSampler

    screened = _screened(setting)
    return AutoSampler(
        setting.space,
        _portfolio(setting),
        seed=setting.seed,
        budget=setting.budget,
        rungs=setting.shares,
        screened=screened,
        ends=screened // setting.fidelity[2],
    )


def _auto_rule(setting: Setting) -> Rule:
    count = _screened(setting)
    if count:
        return Screened(*setting.fidelity, count=count)
    return Cautious(*setting.fidelity)


def _screened(setting: Setting) -> int:
    from automl.search.auto import to_screen

    if setting.several:
        return 0
    return to_screen(
        setting.space,
        _portfolio(setting),
        budget=setting.budget,
        rungs=len(setting.shares),
        eta=setting.fidelity[2],
    )


def _portfolio(setting: Setting) -> Sequence[Point]:
    from automl.search.portfolio import portfolio

    return portfolio(setting.space) if setting.portfolio is None else setting.portfolio


def _gp(setting: Setting) -> Sampler:
    from automl.search.samplers.gp import GpSampler

    return GpSampler(setting.space, seed=setting.seed)


def _tpe(setting: Setting) -> Sampler:
    from automl.search.samplers.tpe import TpeSampler

    return TpeSampler(setting.space, seed=setting.seed)


def _random(setting: Setting) -> Sampler:
    from automl.search.samplers.random import RandomSampler

    return RandomSampler(setting.space, seed=setting.seed)


def _quasi_random(setting: Setting) -> Sampler:
    from automl.search.samplers.quasi_random import QuasiRandomSampler

    return QuasiRandomSampler(setting.space, seed=setting.seed, halton="halton" in setting.options)


def _cma(kind: str) -> Callable[[Setting], Sampler]:
    def make(setting: Setting) -> Sampler:
        from automl.search.samplers.cma import CmaSampler

        restart = next((o for o in setting.options if o in ("ipop", "bipop")), "same")
        return CmaSampler(
            setting.space,
            seed=setting.seed,
            kind=kind,
            restart=restart,
            lr_adapt="lr_adapt" in setting.options,
        )

    return make


def _optuna(setting: Setting) -> Sampler:
    from automl.search.samplers.optuna import OptunaSampler

    return OptunaSampler(
        setting.space,
        name="+".join(setting.options) or "TPESampler",
        seed=setting.seed,
        losses=len(setting.several) or None,
    )


def _nevergrad(name: str = "") -> Callable[[Setting], Sampler]:
    def make(setting: Setting) -> Sampler:
        from automl.search.samplers.nevergrad import NevergradSampler

        return NevergradSampler(
            setting.space,
            name=name or "+".join(setting.options) or "NGOpt",
            seed=setting.seed,
            workers=setting.workers,
            budget=setting.budget,
        )

    return make


def _catcma(setting: Setting) -> Sampler:
    from automl.search.samplers.catcma import CatCmaSampler

    restart = next((o for o in setting.options), "same")
    return CatCmaSampler(setting.space, seed=setting.seed, restart=restart)


def _regularized_evolution(setting: Setting) -> Sampler:
    from automl.search.samplers.regularized_evolution import RegularizedEvolutionSampler

    return RegularizedEvolutionSampler(setting.space, seed=setting.seed)


def _nsga2(setting: Setting) -> Sampler:
    from automl.search.samplers.nsga2 import Nsga2Sampler

    return Nsga2Sampler(setting.space, seed=setting.seed)


def _nsga3(setting: Setting) -> Sampler:
    from automl.search.samplers.nsga3 import Nsga3Sampler

    return Nsga3Sampler(setting.space, seed=setting.seed)


def _bohb(setting: Setting) -> Sampler:
    from automl.search.samplers.bohb import BohbSampler

    return BohbSampler(setting.space, seed=setting.seed, rungs=setting.shares)


def _any(setting: Setting) -> Sampler:
    """The sampler of the strategy that the option names; our Gaussian process without one."""
    return sampler(":".join(setting.options) or "gp", replace(setting, options=()))


def _population(explorer: str) -> Callable[[Setting], Strategy]:
    def make(setting: Setting) -> Strategy:
        from automl.search.fidelity.exploring import Perturbing
        from automl.search.fidelity.pb2 import Bandit
        from automl.search.fidelity.pbt import Population, population_size
        from automl.search.fidelity.ranked import RankedPopulation
        from automl.search.samplers.quasi_random import QuasiRandomSampler

        low, high, _ = setting.fidelity
        kind = Bandit if explorer == "pb2" else Perturbing
        rule = (RankedPopulation if setting.several else Population)(
            low,
            high,
            size=population_size(setting.budget, setting.workers),
            seed=setting.seed,
            explorer=kind(setting.space, seed=setting.seed),
        )
        sampler = QuasiRandomSampler(setting.space, seed=setting.seed)
        if setting.several:
            return Several(
                setting.space,
                sampler,
                rule,
                steps=high,
                directions=setting.several,
                seed=setting.seed,
                marks=rule.steps,
            )
        return Paired(
            setting.space,
            sampler,
            rule,
            steps=high,
            maximize=setting.maximize,
            seed=setting.seed,
        )

    return make


CATALOGUE: dict[str, Named] = {
    "auto": Named(
        "the best we know: good recipes first, then our GP, few trials trained to the end",
        "Unless you know better.",
        _auto,
        Cautious,
        _auto_rule,
    ),
    "gp": Named(
        "a Gaussian process (ours), every trial trained to the end",
        "Few, expensive trainings in a space of up to twenty dimensions.",
        _gp,
    ),
    "tpe": Named(
        "TPE (ours), every trial trained to the end",
        "A hundred trials and more, many choices and conditions.",
        _tpe,
    ),
    "asha": Named(
        "TPE; at each rung the best third trains on (ASHA)",
        "Many workers, and early ranks that can be trusted.",
        _tpe,
        Asha,
    ),
    "hyperband": Named(
        "TPE; brackets of rungs that start early and late (Hyperband)",
        "As asha, when nobody knows how far early ranks can be trusted.",
        _tpe,
        Hyperband,
    ),
    "random": Named(
        "points drawn at random, every trial trained to the end",
        "As the yardstick, or with more workers than results.",
        _random,
    ),
    "quasi_random": Named(
        "points spread evenly (scrambled Sobol, or :halton), trained to the end",
        "As random, without its holes and near-twins: surveys of a space, many workers at once.",
        _quasi_random,
        options=("sobol", "halton"),
    ),
    "cma_es": Named(
        "CMA-ES, one for each branch of the space, under a bandit over branches",
        "Hundreds of cheap trials, up to twenty numbers a branch; :bipop where optima are many.",
        _cma("cma_es"),
        options=("ipop", "bipop", "lr_adapt"),
    ),
    "sep_cma_es": Named(
        "CMA-ES of variances alone, one for each branch",
        "As cma_es with more than twenty numbers, or fewer than a hundred trials for each.",
        _cma("sep_cma_es"),
        options=("ipop", "bipop"),
    ),
    "cma_es_margin": Named(
        "CMA-ES with margin, one for each branch: whole numbers keep a chance to change",
        "As cma_es, where many dimensions are whole numbers.",
        _cma("cma_es_margin"),
        options=("ipop", "bipop"),
    ),
    "ma_es": Named(
        "MA-ES (ours): CMA-ES without a covariance matrix, one for each branch",
        "As cma_es; nothing but NumPy.",
        _cma("ma_es"),
        options=("ipop", "bipop"),
    ),
    "lm_ma_es": Named(
        "LM-MA-ES (ours): few directions instead of a matrix, one for each branch",
        "A hundred numbers and more, and thousands of cheap trials.",
        _cma("lm_ma_es"),
        options=("ipop", "bipop"),
    ),
    "catcma": Named(
        "CatCMA with margin: numbers, whole numbers and choices in one distribution",
        "Hundreds of cheap trials in a space with more branches than trials.",
        _catcma,
        options=("ipop", "bipop"),
    ),
    "regularized_evolution": Named(
        "the best of a few has a child, the oldest die (aging evolution)",
        "Choices rather than numbers, such as architectures, and noisy losses.",
        _regularized_evolution,
    ),
    "nsga2": Named(
        "NSGA-II: fronts of trials have children, the less crowded ones first",
        "Several objectives and a hundred cheap trials and more, many choices and conditions.",
        _nsga2,
    ),
    "nsga3": Named(
        "NSGA-III: as nsga2, spread along directions instead of by crowding",
        "As nsga2, with three objectives and more.",
        _nsga3,
    ),
    "de": Named(
        "differential evolution (Nevergrad's DE)",
        "Many workers, and hundreds of cheap trials on rough ground.",
        _nevergrad("DE"),
    ),
    "pso": Named(
        "particle swarm (Nevergrad's PSO)",
        "As de.",
        _nevergrad("PSO"),
    ),
    "nevergrad": Named(
        "any of Nevergrad's optimizers: nevergrad:NGOpt (the default), :CMA, :TBPSA ...",
        "For one that you know; NGOpt chooses itself by dimensions, budget and workers.",
        _nevergrad(),
        free=True,
    ),
    "optuna": Named(
        "any of Optuna's samplers: optuna:TPESampler (the default), :GPSampler, :CmaEsSampler ...",
        "For one that you know, or to see what ours are worth beside it.",
        _optuna,
        free=True,
    ),
    "bohb": Named(
        "brackets of rungs with one TPE for each rung, a third drawn at random (BOHB)",
        "As hyperband, when losses at different rungs cannot be compared.",
        _bohb,
        Hyperband,
    ),
    "median": Named(
        "TPE; a trial worse than the median at a step ends there (median rule)",
        "One worker, and early losses that can be trusted.",
        _tpe,
        Median,
    ),
    "freeze_thaw": Named(
        "trains what promises most per second, begun or new; :NAME samples, gp by default",
        "Trainings of unequal cost, and curves that tell early where they lead.",
        _any,
        FreezeThaw,
        free=True,
    ),
    "pbt": Named(
        "population based training: the worst go on as changed copies of the best",
        "Numbers that should change while training, and ten trainings or more at once.",
        whole=_population("pbt"),
        population=True,
    ),
    "pb2": Named(
        "as pbt; a Gaussian process that knows the time says what copies try (PB2)",
        "As pbt, with a population of four to eight.",
        whole=_population("pb2"),
        population=True,
    ),
}
