"""Checkpoints are whole or absent, whatever is killed when."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from automl.checkpoints import Store
from automl.errors import CheckpointError
from automl.seals import study_key


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store on the disk, and one behind a URL: fsspec's own, which lives in memory."""
    return Store(tmp_path if request.param == "folder" else f"memory://{uuid.uuid4().hex}/studies")


def test_a_checkpoint_comes_back_as_it_was_saved(store: Store) -> None:
    tensors = {"model/w": torch.randn(3, 4), "train/t": torch.tensor(7)}
    store.save(5, 40, tensors, {"curve": [[10, {"lr": 0.1}]]})
    loaded, meta = store.load(5, 40)
    assert all(torch.equal(loaded[name], t) for name, t in tensors.items())
    assert meta == {"curve": [[10, {"lr": 0.1}]]}
    assert store.steps(5) == [40]


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_a_store_with_a_key_reads_only_what_was_sealed_with_it(place: str, tmp_path: Path) -> None:
    root = str(tmp_path) if place == "folder" else f"memory://{uuid.uuid4().hex}/studies"
    key = study_key(b"shared, and long enough", "s")
    assert key != study_key(b"shared, and long enough", "another")
    there, plain = Store(root, key=key), Store(root)
    there.save(1, 10, {"w": torch.ones(2)}, {"curve": []})
    assert torch.equal(Store(root, key=key).load(1, 10)[0]["w"], torch.ones(2))
    assert plain.load(1, 10)[1] == {"curve": []}  # who has no key asks for no seal

    with plain.writing(1, 20) as copy:  # sealed, but for another step
        shutil.copytree(plain.folder(1, 10), copy, dirs_exist_ok=True)
    with plain.writing(1, 30) as copy:
        shutil.copytree(plain.folder(1, 10), copy, dirs_exist_ok=True)
        (copy / "more").mkdir()
        (copy / "more" / "code.py").write_text("")
    with plain.writing(1, 40) as copy:
        shutil.copytree(plain.folder(1, 10), copy, dirs_exist_ok=True)
        (copy / "meta.json").write_text('{"curve": [[1, {}]]}')
    plain.save(1, 50, {"w": torch.ones(2)}, {})
    for step, found in ((20, "not what"), (30, "not what"), (40, "not what"), (50, "no seal")):
        for read in (Store(root, key=key).load, Store(root, key=key).meta):
            with pytest.raises(CheckpointError, match=found):
                read(1, step)
    other = Store(root, key=study_key(b"shared, and long enough", "another"))
    with pytest.raises(CheckpointError, match="its seal does not fit"):
        other.folder(1, 10)


def test_a_trial_can_be_deleted_by_step_or_whole(store: Store) -> None:
    for step in (10, 20, 30):
        store.save(1, step, {"w": torch.zeros(1)}, {})
    store.delete(1, 20)
    assert store.steps(1) == [10, 30]
    assert store.exists(1, 30) and not store.exists(1, 20)
    store.delete(1)
    store.delete(1)
    assert store.steps(1) == store.trials() == []


def test_a_deleted_trial_leaves_no_file(tmp_path: Path) -> None:
    Store(tmp_path).save(1, 20, {"w": torch.zeros(1)}, {})
    Store(tmp_path).delete(1)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_is_named(store: Store) -> None:
    with pytest.raises(CheckpointError, match="no readable checkpoint in .*/1/10"):
        store.load(1, 10)


def test_an_error_while_writing_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.writing(1, 10) as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert store.steps(1) == []


def test_a_checkpoint_is_replaced_and_its_weight_is_known(store: Store) -> None:
    store.save(1, 10, {"w": torch.zeros(10)}, {"n": 1})
    before = store.weight(1, 10)[0]
    store.save(1, 10, {"w": torch.ones(100)}, {"n": 2})
    tensors, meta = store.load(1, 10)
    assert meta == {"n": 2}
    assert tensors["w"].sum() == 100
    assert 0 <= store.weight(1, 10)[0] - before - 360 < 16  # the header is padded
    assert store.weight(1, 11) == (0, 0.0)
    assert store.steps(1) == [10]


def test_a_folder_inside_a_checkpoint_travels_too(store: Store) -> None:
    with store.writing(2, 7) as folder:
        (folder / "loop" / "deep").mkdir(parents=True)
        (folder / "loop" / "deep" / "file").write_text("here")
    assert (store.folder(2, 7) / "loop" / "deep" / "file").read_text() == "here"
    assert not store.folder(2, 8).exists()


def test_an_exchange_of_folders_leaves_one_of_them(tmp_path: Path) -> None:
    # A reader that looks all the time never finds the place empty.
    script = """
import sys, os
while True:
    for _ in range(1000):
        os.stat(sys.argv[1] + '/1/10/meta.json')
    print("looked", flush=True)
"""
    store = Store(tmp_path)
    store.save(1, 10, {}, {})
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout is not None
            for _ in range(4):
                assert reader.stdout.readline() == "looked\n"
                for n in range(25):
                    store.save(1, 10, {}, {"n": n})
            assert reader.poll() is None
        finally:
            reader.kill()


# Buckets -------------------------------------------------------------------------------------


def _bucket() -> tuple[Store, Any, str]:
    url = f"memory://{uuid.uuid4().hex}/studies"
    fs, root = fsspec.core.url_to_fs(url)
    return Store(url), fs, root


def test_objects_without_a_manifest_are_no_checkpoint_and_go_with_their_trial() -> None:
    store, fs, root = _bucket()
    store.save(1, 10, {"w": torch.zeros(1)}, {})
    fs.pipe_file(f"{root}/1/20.abc/tensors.safetensors", b"of a writer that was killed")
    assert store.steps(1) == [10]
    store.delete(1)
    assert not fs.exists(f"{root}/1")


def test_a_replaced_or_deleted_checkpoint_leaves_no_object_behind() -> None:
    store, fs, root = _bucket()
    for n in range(3):
        store.save(1, 10, {}, {"n": n})
    assert len(fs.find(f"{root}/1")) == 3  # tensors, meta, manifest
    store.delete(1, 10)
    assert fs.find(f"{root}/1") == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..", "a\\..\\evil"])
def test_a_manifest_that_reaches_out_of_its_folder_is_refused(name: str) -> None:
    store, fs, root = _bucket()
    manifest = {"at": "abc", "written": 0, "files": {name: 4}}
    fs.pipe_file(f"{root}/1/10.json", json.dumps(manifest).encode())
    fs.pipe_file(f"{root}/1/10.abc/{name}", b"evil")
    with pytest.raises(CheckpointError, match="outside of its folder"):
        store.folder(1, 10)
    with pytest.raises(CheckpointError, match="outside of its folder"):
        store.delete(1, 10)


def test_a_link_that_leads_out_of_a_checkpoint_is_not_followed(tmp_path: Path) -> None:
    store, _, _ = _bucket()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(CheckpointError, match="link that leads out"), store.writing(1, 10) as f:
        (f / "stolen").symlink_to(tmp_path / "secret")
    assert store.steps(1) == []
    with store.writing(1, 10) as folder:
        (folder / "best").write_text("best")
        (folder / "last").symlink_to("best")
    assert (store.folder(1, 10) / "last").read_text() == "best"


def test_a_store_that_cannot_be_opened_is_one_line() -> None:
    with pytest.raises(CheckpointError, match="nosuch://place") as error:
        Store("nosuch://place")
    assert "\n" not in str(error.value)


_WRITER = """
import sys, torch
from automl.checkpoints import Store
store = Store(sys.argv[1])
step = 0
while True:
    step += 1
    store.save(1, step, {"w": torch.full((50_000,), float(step))}, {"step": step})
    print(step, flush=True)
"""


def test_a_killed_writer_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "1\n"
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    said = ["1", *writer.communicate()[0].split("\n")]
    store = Store(tmp_path)
    assert store.steps(1)[: len(said) - 1] == list(range(1, len(said)))  # the last may be half
    for step in store.steps(1):
        tensors, meta = store.load(1, step)
        assert meta["step"] == step
        assert torch.equal(tensors["w"], torch.full((50_000,), float(step)))
