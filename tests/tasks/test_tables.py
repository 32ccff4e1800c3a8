"""Tables: what columns become, what a target becomes, and how what is wrong is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from automl.errors import TaskError
from automl.records import TaskSpec
from automl.tasks.fitting import split_indices
from automl.tasks.opening import open_task
from automl.tasks.table import Table, load_table
from automl.tasks.task import ModelTask

ROWS = 200


def frame(seed: int = 0) -> pd.DataFrame:
    """Numbers with holes, a category with rare values, a switch, an id, a constant, a label."""
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 10, ROWS)
    city = rng.choice(["Rome", "Oslo", "Lima"], ROWS, p=[0.6, 0.3, 0.1])
    table = pd.DataFrame(
        {
            "id": np.arange(1000, 1000 + ROWS),
            "age": np.where(np.arange(ROWS) % 10 == 0, np.nan, age),
            "city": city,
            "member": rng.random(ROWS) < 0.5,
            "country": "IT",
            "income": rng.lognormal(3, 1, ROWS),
            "label": np.where(age + (city == "Rome") * 5 > 42, "buys", "leaves"),
        }
    )
    table.loc[3, "city"] = None
    return table


def opened(path: Path, target: str, metric: str | None = None) -> ModelTask:
    task = open_task(TaskSpec(str(path), target=target, metric=metric))
    assert isinstance(task, ModelTask)
    return task


def loaded(table: pd.DataFrame, folder: Path, target: str, metric: str | None = None) -> Table:
    table.to_csv(folder / "t.csv", index=False)
    return load_table(folder / "t.csv", target, metric=metric)


def whole(table: Table) -> torch.Tensor:
    parts = [split.x for split in table.splits.values()]
    assert all(x is not None for x in parts)
    return torch.cat([x for x in parts if x is not None])


def test_columns_are_told_apart_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    table = loaded(frame(), tmp_path, "label")
    said = "; ".join(table.notes)
    assert "2 numbers and 2 categories" in said
    assert "id (row number)" in said
    assert "country (constant)" in said
    # age, its indicator, income; Rome, Oslo, Lima; member's two values; perhaps a missing city.
    assert whole(table).shape[1] in (8, 9)
    assert table.classes == ("buys", "leaves")


def test_features_are_finite_and_scaled_by_the_training_rows(tmp_path: Path) -> None:
    table = loaded(frame(), tmp_path, "label")
    x = whole(table)
    assert torch.isfinite(x).all()
    train = table.splits["train"].x
    assert train is not None
    scaled = [c for c in range(x.shape[1]) if len(train[:, c].unique()) > 2]
    assert len(scaled) == 2
    for column in scaled:
        assert abs(train[:, column].mean()) < 1e-5
        assert abs(train[:, column].std(correction=0) - 1) < 1e-4


def test_nothing_of_validation_and_test_rows_enters_the_encoding(tmp_path: Path) -> None:
    table = frame()
    known = loaded(table, tmp_path, "label").splits["train"].x
    labels = torch.from_numpy((table["label"] == "leaves").to_numpy().astype(np.int64))
    for held_out in split_indices(labels)[1:]:
        table.loc[held_out.numpy(), "income"] *= 1000
        table.loc[held_out.numpy(), "city"] = "Quito"
    after = loaded(table, tmp_path, "label").splits["train"].x
    assert known is not None and after is not None
    assert torch.equal(after[:, : known.shape[1]], known)


def test_classes_are_shared_out_alike(tmp_path: Path) -> None:
    table = frame()
    table["label"] = np.where(np.arange(ROWS) < 20, "rare", "frequent")
    found = loaded(table, tmp_path, "label")
    shares = {
        n: float((s.y == 1).float().mean()) for n, s in found.splits.items() if s.y is not None
    }
    assert all(abs(share - 0.1) < 0.03 for share in shares.values()), shares
    assert {n: len(s) for n, s in found.splits.items()} == {"train": 120, "valid": 40, "test": 40}


def test_every_class_is_learned_from_even_when_it_has_few_rows(tmp_path: Path) -> None:
    for first in range(0, 40, 3):
        table = frame()
        table["label"] = np.where(
            (np.arange(ROWS) >= first) & (np.arange(ROWS) < first + 2), "z", "a"
        )
        y = loaded(table, tmp_path, "label").splits["train"].y
        assert y is not None
        assert len(y.unique()) == 2


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (lambda n: np.where(np.arange(n) % 3 == 0, "yes", "no"), ("no", "yes")),
        (lambda n: np.arange(n) % 2 == 0, ("False", "True")),
        (lambda n: np.arange(n) % 4, ("0", "1", "2", "3")),
        (lambda n: (np.arange(n) % 2).astype(float), ("0", "1")),
        (lambda n: np.arange(n) * 7 % 101, ()),
        (lambda n: np.linspace(0, 1, n), ()),
    ],
    ids=["texts", "truth", "few whole numbers", "the same as floats", "many", "real numbers"],
)
def test_the_target_decides_between_classes_and_regression(
    values: Callable[[int], np.ndarray], classes: tuple[str, ...], tmp_path: Path
) -> None:
    table = frame()
    table["label"] = values(ROWS)
    assert loaded(table, tmp_path, "label").classes == classes


def test_a_metric_of_values_makes_a_regression_of_few_whole_numbers(tmp_path: Path) -> None:
    table = frame()
    table["label"] = np.arange(ROWS) % 4
    assert loaded(table, tmp_path, "label").classes == ("0", "1", "2", "3")
    assert loaded(table, tmp_path, "label", metric="rmse").classes == ()


def test_regression_is_judged_in_the_targets_own_unit(tmp_path: Path) -> None:
    table = frame()
    table["label"] = 1000 + 50 * np.random.default_rng(1).standard_normal(ROWS)
    table.to_csv(tmp_path / "t.csv", index=False)
    task = opened(tmp_path / "t.csv", "label")
    assert (task.card.metric, task.card.direction) == ("rmse", "minimize")
    y = task.valid.y
    assert y is not None and y.shape == (40, 1)
    # An output of 0 is the mean of the training rows: its error is the target's deviation.
    error = task.evaluate(torch.zeros_like(y), y)["rmse"]
    assert 35 < error < 65
    assert task.evaluate(y + 1, y)["rmse"] == pytest.approx(error, rel=0.5)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".CSV"])
def test_every_form_of_a_table_gives_the_same_samples(suffix: str, tmp_path: Path) -> None:
    table, path = frame(), tmp_path / f"people{suffix}"
    if suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    card = opened(path, "label").card
    table.to_csv(tmp_path / "plain.csv", index=False)
    assert card.data_fingerprint == opened(tmp_path / "plain.csv", "label").card.data_fingerprint
    assert card.name == "people"


def test_another_value_changes_the_fingerprint(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    before = opened(tmp_path / "t.csv", "label").card.data_fingerprint
    table.loc[7, "income"] += 1
    table.to_csv(tmp_path / "t.csv", index=False)
    assert opened(tmp_path / "t.csv", "label").card.data_fingerprint != before


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    table = frame()
    table.loc[:4, "label"] = None
    found = loaded(table, tmp_path, "label")
    assert found.rows == ROWS - 5
    assert "5 rows without a target left out" in found.notes


def test_a_full_training_sees_tens_of_thousands_of_rows_however_small_the_table(
    tmp_path: Path,
) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False)
    card = opened(tmp_path / "t.csv", "label").card
    assert 30_000 < card.steps * card.batch_size < 60_000
    assert card.steps % card.eval_steps == 0
    assert 10 <= card.steps / card.eval_steps <= 20


def test_a_rare_class_is_named_with_a_metric_for_it(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    assert "balanced_accuracy" not in opened(tmp_path / "t.csv", "label").card.about
    table["label"] = np.where(np.arange(ROWS) < 10, "ill", "well")
    table.to_csv(tmp_path / "t.csv", index=False)
    about = opened(tmp_path / "t.csv", "label").card.about
    assert "class 'ill' has 0.05 of the rows: think of --metric balanced_accuracy" in about


def test_categories_beyond_the_frequent_are_pooled(tmp_path: Path) -> None:
    table = frame()
    table["city"] = [f"town {i % 60}" if i % 2 else "capital" for i in range(ROWS)]
    assert whole(loaded(table, tmp_path, "label")).shape[1] < 45


def test_european_files_with_semicolons_are_read(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "t.csv", index=False, sep=";")
    assert load_table(tmp_path / "t.csv", "label").classes == ("buys", "leaves")


GOOD = "a,b,y\n" + "".join(f"{i * 7 % 31},{i % 7},{'no' if i % 2 else 'yes'}\n" for i in range(60))
WRONG: dict[str, tuple[str, str | None, str]] = {
    "empty": ("", "y", "t.csv is empty"),
    "header only": ("a,b,y\n", "y", "no rows"),
    "no target given": (GOOD, None, "--target"),
    "no such target": (GOOD.replace("b,y", "b,price", 1), "prize", "nearest: 'price'"),
    "one class": (GOOD.replace("no", "yes"), "y", "every row has the same value, yes"),
    "no target known": ("a,y\n" + "1,\n" * 40, "y", "missing in every row"),
    "too few rows": ("a,y\n1,b\n2,c\n", "y", "2 rows with a target"),
    "names as target": (
        "a,y\n" + "".join(f"{i},n{i}\n" for i in range(60)),
        "y",
        "different texts",
    ),
    "nothing to learn from": ("a,y\n" + "1,b\n1,c\n" * 30, "y", "no column is left"),
    "a ragged row": (GOOD + "1,2,3,4,5\n", "y", "t.csv:62: 5 cells, where 3 were expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_one_line_that_names_the_file(case: str, tmp_path: Path) -> None:
    text, target, message = WRONG[case]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(TaskError) as told:
        open_task(TaskSpec(str(tmp_path / "t.csv"), target=target))
    assert message in str(told.value)
    assert "t.csv" in str(told.value)
    assert "\n" not in str(told.value)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,y\n1,é\n".encode("latin-1") * 30)
    with pytest.raises(TaskError, match="UTF-8"):
        load_table(tmp_path / "t.csv", "y")


def test_a_parquet_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("a,y")
    with pytest.raises(TaskError, match=r"t\.parquet: cannot be read"):
        load_table(tmp_path / "t.parquet", "y")
