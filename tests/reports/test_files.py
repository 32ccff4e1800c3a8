"""The files of a study's folder, and the page, on made-up studies."""

from __future__ import annotations

import copy
import html.parser
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save

from automl.checkpoints import Store
from automl.errors import RecipeError, StudyError
from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.reports import export, page, plots, recipe_file, setting_plots, tables
from automl.reports.importance import importances
from automl.reports.recipe_file import RecipeFile, read_recipe
from automl.space.ranges import Value
from automl.study.state import State

MakeStudy = Callable[..., State]


WEIGHTS = {"model/0.weight": torch.randn(3, 2), "model/0.bias": torch.ones(3).bfloat16(),
           "train/w": torch.zeros(9)}  # fmt: skip


@pytest.fixture(scope="module")
def study(made_up: MakeStudy) -> State:
    return made_up(40)


@pytest.fixture(scope="module")
def written(study: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study, with all of its files."""
    folder = tmp_path_factory.mktemp("written")
    best = tables.winner_recipe(study)
    run = next(t for t in study.trials.values() if t.recipe == best and t.phase == "verdict")
    Store(folder / "checkpoints").save(run.number, 540, WEIGHTS, {})
    names = {p.name for p in export.write_all(study, folder)}
    assert names >= {"best.toml", "best.safetensors", "report.html", "trials.csv", "trials.parquet"}
    return folder


def test_a_finished_study_leaves_every_file(study: State, written: Path) -> None:
    kept = load_file(written / "best.safetensors")
    assert set(kept) == {"0.weight", "0.bias"}
    assert torch.equal(kept["0.weight"], WEIGHTS["model/0.weight"])
    assert kept["0.bias"].dtype == torch.bfloat16
    assert read_recipe(written / "best.toml").recipe == tables.winner_recipe(study)
    assert not [p for p in written.iterdir() if p.name.startswith(".")]
    mode = stat.S_IMODE(os.stat(written / "best.toml").st_mode)
    assert mode & 0o044 == 0o044 & ~_umask()


def test_csv_and_parquet_hold_every_trial(study: State, written: Path) -> None:
    csv, parquet = (
        pd.read_csv(written / "trials.csv"),
        pd.read_parquet(written / "trials.parquet"),
    )
    for frame in (csv, parquet):
        assert list(frame["trial"]) == list(study.trials)
        assert frame["val_accuracy"].max() == pytest.approx(
            max(t.last("val/accuracy") or 0 for t in study.trials.values())
        )
        assert np.isnan(frame["optimizer.muon.lr"][0])


def test_a_study_that_has_only_begun_writes_what_it_can(made_up: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / "best.toml").write_text("from an older state")
    state = made_up(0, verdict=False)
    names = {p.name for p in export.write_all(state, tmp_path)}
    assert names == {"report.html"}
    assert not (tmp_path / "best.toml").exists()


def test_a_folder_that_cannot_be_written_is_one_line(made_up: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot write .*file"):
        export.write_all(made_up(3), tmp_path / "file")


def test_weights_without_model_tensors_are_none() -> None:
    assert export.without_training_state(save({"train/w": torch.zeros(2)})) is None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# best.toml -----------------------------------------------------------------------------------


def test_a_recipe_file_comes_back_as_it_was(tmp_path: Path) -> None:
    spec = TaskSpec('my "data".csv', target="y", sets=("optimizer=adamw",), epochs=3.5)
    point: dict[str, Value] = {
        "optimizer": "adamw",
        "optimizer.adamw.lr": 1.5e-5,
        "model.deep": True,
        "model.act": None,
        "batch": "flip+mixup",
        "batch_size": 32,
    }
    recipe = Recipe(point, steps=77, seed=5).changed(30, {"optimizer.adamw.lr": 2e-5})
    file = RecipeFile(spec, recipe, {"metric": "accuracy"})
    path = tmp_path / "best.toml"
    path.write_text(recipe_file.write_text(file))
    assert read_recipe(path) == file
    assert '"optimizer.adamw.lr" = 1.5e-05' in path.read_text()


CHANGED = "[task]\nsource='d'\n[recipe]\nsteps=5\n[recipe.point]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[task", "best.toml: not TOML"),
        ("x = 1", "no \\[task\\] table; is it a recipe file"),
        ("[task]\nsource='digits'", "no \\[recipe\\] table"),
        ("[task]\nsource='digits'\n[recipe]\nsteps=5", "no \\[recipe.point\\] table"),
        ("[task]\n[recipe]\nsteps=5\n[recipe.point]", "task.source is missing"),
        ("[task]\nsource='d'\ntargt='y'\n[recipe]\nsteps=5\n[recipe.point]", "nearest: 'target'"),
        ("[task]\nsource='d'\n[recipe]\nsteps=0\n[recipe.point]", "recipe.steps = 0; a whole"),
        ("[task]\nsource='d'\n[recipe]\n[recipe.point]", "recipe.steps is missing"),
        ("[task]\nsource='d'\n[recipe]\nsteps=5\n[recipe.point]\noptimizer.lr=1", "quote dotted"),
        ("[task]\nsource='d'\n[recipe]\nsteps=5\n[recipe.point]\nlr=[1, 2]", "one number or one"),
        (CHANGED + "[[recipe.changes]]\nlr=0.2", "recipe.changes.from is missing"),
        (CHANGED + "[[recipe.changes]]\nfrom=2\nlr=0.2", "changes: a change from step 2 on"),
        (CHANGED + "[recipe.changes]\nfrom=2", "write \\[\\[recipe.changes\\]\\] for each"),
    ],
)
def test_a_broken_recipe_file_is_one_clear_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "best.toml").write_text(text)
    with pytest.raises(RecipeError, match=line) as caught:
        read_recipe(tmp_path / "best.toml")
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        read_recipe(tmp_path / "no.toml")


# The page ------------------------------------------------------------------------------------


class _Tags(html.parser.HTMLParser):
    """Checks that tags close in order, and collects what would be loaded from elsewhere."""

    void = frozenset({"meta", "br", "link", "img", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.outside.append(f"{tag} {name}={value}")
        if tag == "script":
            self.outside.append("script")
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


@pytest.mark.parametrize("trials", [0, 1, 3, 40])
def test_the_page_needs_nothing_from_outside(made_up: MakeStudy, trials: int) -> None:
    state = made_up(trials, verdict=trials > 1)
    tags = _Tags()
    text = page.render(state)
    tags.feed(text)
    assert tags.outside == []
    assert tags.open == []
    assert "@import" not in text
    assert "digits-1" in text
    assert len(text) < 500_000


def test_the_page_begins_with_the_verdict(study: State, written: Path) -> None:
    text = (written / "report.html").read_text()
    assert "<h1>Better than the baseline</h1>" in text
    parts = ("verdict", "changes", "recipe", "search", "matters", "trials", "measured")
    order = [text.index(f'id="{part}"') for part in parts]
    assert order == sorted(order)
    assert tables.verdict_sentence(study).split(":")[0] in text


def test_the_users_words_are_escaped(made_up: MakeStudy) -> None:
    state = made_up(3, verdict=False, seed=5)
    state.trials[1].label = "<script>alert(1)</script>"
    assert "<script>alert" not in page.render(state)


def test_of_equal_trials_the_first_is_drawn_as_the_best(made_up: MakeStudy) -> None:
    state = made_up(40)
    best = state.incumbent()
    assert best is not None
    whole = [t for t in state.search_trials() if t.status == best.status and t.number > best.number]
    whole[-1].curve = list(best.curve)
    assert f"best, trial {best.number}" in plots.curves(state)


def test_an_interval_of_shares_is_drawn_between_none_and_all(made_up: MakeStudy) -> None:
    whole = made_up(40)
    verdict = copy.deepcopy(dict(whole.verdict or {}))
    for standing in verdict["standings"]:
        standing["test"] |= {"sd": 0.5}  # its interval is wider than all shares there are
    state = replace(whole, verdict=verdict)  # the other tests' study stays as it is
    ticks = re.findall(r">(-?|−)(\d+)</text>", plots.comparison(state))
    assert ticks and all(not sign and int(number) <= 100 for sign, number in ticks)


def test_pictures_are_the_same_each_time(made_up: MakeStudy) -> None:
    state = made_up(40)
    found = importances(state)
    for draw in (plots.comparison, plots.gains, plots.history, plots.curves):
        assert draw(state).startswith("<svg")
        assert draw(state) == draw(state)
    assert setting_plots.parallel(state, found) == setting_plots.parallel(state, found)
    assert len(re.findall("muon lr", setting_plots.importance(found))) == 1
    assert "<svg" in setting_plots.slices(state, found)


def test_smaller_is_better_draws_too(made_up: MakeStudy) -> None:
    text = page.render(made_up(60, metric="rmse"))
    assert "better by" in text
