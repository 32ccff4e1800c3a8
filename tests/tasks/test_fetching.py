"""Data behind a URL are fetched once, and again when they changed."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from automl.errors import TaskError
from automl.fetching import fetched
from automl.records import TaskSpec
from automl.tasks.opening import open_task


class Web(SimpleHTTPRequestHandler):
    """Files of a folder; those below "marked" have an ETag."""

    gets: list[str]

    def do_GET(self) -> None:
        self.gets.append(self.path)
        super().do_GET()

    def end_headers(self) -> None:
        file = Path(self.translate_path(self.path))
        if "marked" in self.path and file.is_file():
            self.send_header("ETag", hashlib.sha256(file.read_bytes()).hexdigest())
        super().end_headers()

    def log_message(self, *words: object) -> None: ...


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder, the address that serves it, and what was got from there."""
    folder, gets = tmp_path / "web", list[str]()
    (folder / "marked").mkdir(parents=True)
    handler = type("Here", (Web,), {"gets": gets})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}", gets
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("place", "gets"), [("marked/t.csv", 2), ("plain.csv", 3)])
def test_a_file_is_got_again_when_it_changed(
    web: tuple[Path, str, list[str]], place: str, gets: int
) -> None:
    folder, address, got = web
    (folder / place).write_text("a\n1\n")
    assert [fetched(f"{address}/{place}").read_text() for _ in range(2)] == ["a\n1\n"] * 2
    (folder / place).write_text("a\n2\n")
    path = fetched(f"{address}/{place}?download=1")
    assert (path.name, path.read_text()) == (Path(place).name, "a\n2\n")
    assert len(got) == gets  # without a mark, each time


def test_a_table_and_a_folder_of_images_are_tasks_by_their_url(tmp_path: Path) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    fs, path = fsspec.core.url_to_fs(root)
    rows = "".join(f"{n % 7},{n % 2}\n" for n in range(200))
    fs.pipe_file(f"{path}/t.csv", ("x,y\n" + rows).encode())
    card = open_task(TaskSpec(f"{root}/t.csv", target="y", device="cpu")).card
    assert (card.name, card.kind) == ("t", "vector")
    pixels = np.random.default_rng(0)
    for n in range(40):
        file = tmp_path / "one.png"
        Image.fromarray(pixels.integers(0, 255, (8, 8), np.uint8)).save(file)
        fs.pipe_file(f"{path}/pictures/class{n % 2}/{n}.png", file.read_bytes())
    card = open_task(TaskSpec(f"{root}/pictures", device="cpu")).card
    assert (card.name, card.kind, len(card.classes)) == ("pictures", "image", 2)
    changed = card.data_fingerprint
    fs.pipe_file(f"{path}/pictures/class0/0.png", file.read_bytes())
    assert open_task(TaskSpec(f"{root}/pictures", device="cpu")).card.data_fingerprint != changed


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("memory://nowhere/t.csv", "memory://nowhere/t.csv: there is nothing"),
        ("memory://nowhere/task.py", "a task file is code and is not fetched"),
        ("http://me:hush@127.0.0.1:1/t.csv", "http://127.0.0.1:1/t.csv: no password in a URL"),
        ("http://127.0.0.1:1/t.csv", "cannot be read|there is nothing"),
        ("nosuch://place/t.csv", "nosuch://place/t.csv"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(url: str, match: str) -> None:
    with pytest.raises(TaskError, match=match) as error:
        open_task(TaskSpec(url))
    assert "\n" not in str(error.value) and "hush" not in str(error.value)


def test_a_file_url_is_the_file(tmp_path: Path) -> None:
    assert fetched(f"file://{tmp_path}/t.csv") == tmp_path / "t.csv"
