"""A study that ranks networks before it trains them, from its options to its words."""

from __future__ import annotations

from pathlib import Path

import pytest

import automl
from automl.errors import StudyError
from automl.study.preparing import saved_state
from automl.study.prescreening import trust_of, trust_words


def test_a_study_scores_networks_and_says_what_came_of_it(tmp_path: Path) -> None:
    state = automl.tune(
        "digits", budget="13trials", sets=("optimizer=adamw",), epochs=0.5, seeds=1, workers=1,
        strategy="random", prescreen="params", runs=tmp_path, mlflow="off", pack="off",
    )  # fmt: skip
    assert state.config is not None
    pool = state.config.pool
    assert pool is not None
    assert len(pool.candidates) == 97
    labels = [t.label for t in state.search_trials()]
    assert labels[:5] == ["baseline", *["prescreened", "drawn blind"] * 2]
    found = trust_of(state)
    assert found is not None
    assert found.trained >= 12
    assert trust_words(state).startswith("prescreen params: 97 networks scored; rank correlation")
    assert trust_words(saved_state("digits", runs=tmp_path)) == trust_words(state)
    assert "rank correlation" in (tmp_path / "digits/report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prescreen": "naswit"}, "--prescreen naswit: no such proxy; nearest: 'naswot'"),
        ({"prescreen": "naswot", "space": "quick"}, "holds 1 network; there is nothing to rank"),
    ],
)
def test_what_cannot_be_screened_is_refused(
    options: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=message):
        automl.tune("digits", runs=tmp_path, mlflow="off", pack="off", workers=1, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*/journal.db"))
