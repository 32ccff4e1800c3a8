"""What a trial costs when training costs nothing: suggest, dispatch, report, journal, decide.

    python benchmarks/overhead.py [--trials 100 1000 10000] [--ray]

The trial is a function that reports one number. `automl` runs it through a real worker process
and a durable SQLite journal; every CPU second of driver and worker counts. Beside it, in the same
run: Optuna's own loop in one process, the objective called directly, in memory, on SQLite and on
its journal file, with the same ten parameters and the random sampler; TPE is shown for its own
cost. The figure is the slope between a quarter of the trials and all of them, so that start-up
does not count; it is CPU milliseconds per trial. Through Celery workers: overhead_queue.py.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automl.study.controller import run
from automl.study.options import TuneOptions
from automl.study.preparing import prepare

NAMES = [f"p{i}" for i in range(10)]
TASK = f"""
space = {{name: "0.0..1.0" for name in {NAMES}}}
metric = "score"
steps = 1


def train(trial):
    trial.report(1, {{"score": trial.recipe["p0"]}})
"""


def cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def automl_slope(trials: int, strategy: str, folder: Path) -> float:
    """CPU ms per trial of driver and worker between trials/4 and trials."""
    import psutil  # counts the worker while it lives

    (folder / "noop.py").write_text(TASK)
    options = TuneOptions(
        folder / "noop.py", budget=f"{trials}trials", strategy=strategy, seeds=1,
        name=f"{strategy}{trials}", workers=1, runs=folder / "runs",
    )  # fmt: skip
    prepared = prepare(options)
    marks: list[float] = []
    workers = psutil.Process().children(recursive=True)

    def spent() -> float:
        times = [w.cpu_times() for w in workers]
        return cpu_seconds() + float(sum(t.user + t.system for t in times))

    def listen(event: Any) -> None:
        quarter = event["kind"] == "report" and event["report"]["trial"] == trials // 4
        if quarter or event["kind"] == "judge":
            marks.append(spent())

    run(prepared, listen=listen)
    prepared.close()
    return (marks[1] - marks[0]) / (trials - trials // 4) * 1e3


def optuna_slope(trials: int, storage: str, sampler: str, folder: Path) -> float:
    """CPU ms per trial of Optuna alone between trials/4 and trials."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    place = folder / f"optuna-{storage}-{sampler}-{trials}"
    stores: dict[str, Callable[[], Any]] = {
        "memory": lambda: None,
        "sqlite": lambda: f"sqlite:///{place}.db",
        "journal": lambda: JournalStorage(JournalFileBackend(f"{place}.log")),
    }
    samplers: dict[str, Callable[[], Any]] = {
        "random": lambda: optuna.samplers.RandomSampler(seed=0),
        "tpe": lambda: optuna.samplers.TPESampler(seed=0),
    }
    study = optuna.create_study(
        storage=stores[storage](), sampler=samplers[sampler](), direction="maximize"
    )

    def objective(trial: Any) -> float:
        values = [float(trial.suggest_float(name, 0.0, 1.0)) for name in NAMES]
        trial.report(values[0], 1)
        return values[0]

    study.optimize(objective, n_trials=trials // 4)
    before = cpu_seconds()
    study.optimize(objective, n_trials=trials - trials // 4)
    return (cpu_seconds() - before) / (trials - trials // 4) * 1e3


def ray_slope(trials: int) -> float:
    """CPU ms per trial of Ray Tune with reused actors, its whole process tree."""
    import psutil
    from ray import tune

    def spent() -> float:
        tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return float(sum(p.cpu_times().user + p.cpu_times().system for p in tree))

    def objective(config: dict[str, float]) -> None:
        tune.report({"score": config["p0"]})

    def fit(n: int) -> float:
        space = {name: tune.uniform(0.0, 1.0) for name in NAMES}
        before = spent()
        tune.Tuner(
            objective, param_space=space,
            tune_config=tune.TuneConfig(
                num_samples=n, reuse_actors=True, metric="score", mode="max"
            ),
        ).fit()  # fmt: skip
        return spent() - before

    return (fit(trials) - fit(trials // 4)) / (trials - trials // 4) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--slow-limit", type=int, default=1000,
                        help="Optuna's storages and TPE run up to this many trials")  # fmt: skip
    parser.add_argument("--ray", action="store_true", help="also Ray Tune, which must be installed")
    args = parser.parse_args()
    print(f"{'CPU ms per no-op trial':34}" + "".join(f"{n:>10}" for n in args.trials))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows: dict[str, tuple[Callable[[int], float], float]] = {
            "automl, random": (lambda n: automl_slope(n, "random", folder), 1e9),
            "automl, tpe": (lambda n: automl_slope(n, "tpe", folder), args.slow_limit),
        }
        for storage, sampler in (
            ("memory", "random"), ("memory", "tpe"), ("journal", "random"), ("sqlite", "random"),
        ):  # fmt: skip
            limit = 1e9 if (storage, sampler) == ("memory", "random") else args.slow_limit
            rows[f"Optuna, {storage}, {sampler}"] = (
                lambda n, a=storage, b=sampler: optuna_slope(n, a, b, folder),  # type: ignore[misc]
                limit,
            )
        if args.ray:
            rows["Ray Tune, random, reused actors"] = (ray_slope, 100)
        for name, (slope, limit) in rows.items():
            cells = [f"{slope(n):10.2f}" if n <= limit else f"{'-':>10}" for n in args.trials]
            print(f"{name:34}" + "".join(cells), flush=True)
    print(time.strftime("%Y-%m-%d"), "one worker; slope between a quarter of the trials and all")


if __name__ == "__main__":
    main()
