"""What a driver says between two events reaches every process that follows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl.study import live
from automl.study.live import Following, Live


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[[], Live]]:
    """Makes drivers of one study, one after the other."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Live(tmp_path)))


def progress(trial: int) -> dict[str, object]:
    return {
        "kind": "progress",
        "trial": trial,
        "step": 1,
        "metrics": {"val/accuracy": float("nan")},
    }


def test_news_come_once_and_the_journals_events_do_not(
    tmp_path: Path, driver: Callable[[], Live]
) -> None:
    reader = Following(tmp_path)
    assert reader.news() == []
    first = driver()
    for event in ({"kind": "phase", "phase": "search"}, {"kind": "ask", "at": 1.0}, progress(3)):
        first.hear(event)
    assert [e["kind"] for e in reader.news()] == ["phase", "progress"]
    assert reader.news() == []
    first.hear(progress(4))
    (one,) = reader.news()
    assert one["trial"] == 4


def test_a_half_written_line_waits_for_its_end(tmp_path: Path) -> None:
    reader = Following(tmp_path)
    file = tmp_path / "live.jsonl"
    file.write_text('{"kind":"phase","phase":"search"}\n{"kind":"pro')
    assert [e["kind"] for e in reader.news()] == ["phase"]
    with file.open("a") as more:
        more.write('gress"}\n')
    assert [e["kind"] for e in reader.news()] == ["progress"]


def test_the_file_stays_small_and_keeps_what_a_new_reader_needs(
    tmp_path: Path, driver: Callable[[], Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LARGE", 2000)
    first, reader = driver(), Following(tmp_path)
    first.hear({"kind": "phase", "phase": "verdict"})
    for n in range(200):
        first.hear(progress(n))
        assert (tmp_path / "live.jsonl").stat().st_size < 3000
        assert reader.news()[-1]["trial"] == n
    assert Following(tmp_path).news()[0] == {"kind": "phase", "phase": "verdict"}


def test_a_new_driver_begins_anew(tmp_path: Path, driver: Callable[[], Live]) -> None:
    first, reader = driver(), Following(tmp_path)
    for n in range(3):
        first.hear(progress(n))
    reader.news()
    driver().hear(progress(7))
    assert [e["trial"] for e in reader.news()] == [7]


def test_a_file_that_began_anew_and_outgrew_the_reader_is_read_from_its_start(
    tmp_path: Path, driver: Callable[[], Live]
) -> None:
    first, reader = driver(), Following(tmp_path)
    first.hear(progress(1))
    reader.news()
    second = driver()
    for n in (10_000_000, 20_000_000):  # longer lines: the reader's place is within one
        second.hear(progress(n))
    first.hear(progress(3))  # the first driver has not heard yet that it was replaced
    assert [e["trial"] for e in reader.news()] == [10_000_000, 20_000_000, 3]
