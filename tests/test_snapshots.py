"""Which files travel, and that an archive from anywhere stays in its folder."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from automl.archives import archive_of, digest_of, unpack
from automl.errors import CheckpointError, TaskError
from automl.snapshots import snapshot, unpacked


def write(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def names_in(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


# What travels --------------------------------------------------------------------------------


def test_what_git_would_ignore_stays_here(tmp_path: Path) -> None:
    write(tmp_path, "task.py", "a/b/net.py", "a/data.bin", "a/keep.bin", "logs/x", "a/logs/y")
    write(tmp_path, ".git/config", "a/__pycache__/net.pyc", "venv/pyvenv.cfg", "venv/lib/big.py")
    write(tmp_path, ".gitignore", text="*.bin\n/logs/\n")
    write(tmp_path, "a/.gitignore", text="!keep.bin\n")
    assert names_in(snapshot(tmp_path)) == [
        ".gitignore", "a/.gitignore", "a/b/net.py", "a/keep.bin", "a/logs/y", "task.py",
    ]  # fmt: skip


def test_it_is_what_git_itself_would_add(tmp_path: Path) -> None:
    write(tmp_path, "b/t.py", "b/deep/x.tmp", "b/deep/y.tmp", "b/out/z", "b/deep/out/w", "b/k.log")
    write(tmp_path, ".gitignore", text="*.tmp\n!y.tmp\nb/out\n*.log\n")
    write(tmp_path, "b/deep/.gitignore", text="y*\n!*.log\n")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    listed = [*git, "ls-files", "--cached", "--others", "--exclude-standard", "b"]
    told = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    assert names_in(snapshot(tmp_path / "b")) == sorted(n.removeprefix("b/") for n in told)


def test_the_studies_folder_and_what_automlignore_names_stay_here(tmp_path: Path) -> None:
    write(tmp_path, "task.py", "runs/s/journal.db", "notes/big")
    write(tmp_path, ".automlignore", text="notes\n.automlignore\n")
    assert names_in(snapshot(tmp_path, leave_out=[tmp_path / "runs"])) == ["task.py"]


def test_a_linked_file_travels_as_a_file_and_a_linked_folder_does_not(tmp_path: Path) -> None:
    write(tmp_path, "else/net.py", "code/task.py")
    (tmp_path / "code" / "net.py").symlink_to(tmp_path / "else" / "net.py")
    (tmp_path / "code" / "all").symlink_to(tmp_path)
    (tmp_path / "code" / "lost").symlink_to("nowhere")
    data = snapshot(tmp_path / "code")
    assert names_in(data) == ["net.py", "task.py"]
    unpack(data, tmp_path / "there")
    assert (tmp_path / "there" / "net.py").read_text() == "x"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path, "a/x.py", "a/y.py", "b/y.py", "b/x.py")
    for file in (tmp_path / "b").iterdir():
        os.utime(file, (1, 1))
    (tmp_path / "b" / "x.py").chmod(0o600)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    (tmp_path / "b" / "x.py").chmod(0o700)
    assert snapshot(tmp_path / "a") != snapshot(tmp_path / "b")  # it may be executed


def test_too_much_is_told_with_the_largest_files_and_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, "task.py", "small.bin")
    for n, mib in enumerate((5, 9, 8, 1)):
        with (tmp_path / f"big{n}.bin").open("wb") as file:
            file.truncate(mib * 2**20)
    with pytest.raises(TaskError) as error:
        snapshot(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: 23.0 MiB would travel to the workers, of 20.0 MiB at most; the largest: "
        "big1.bin (9.0 MiB), big2.bin (8.0 MiB), big0.bin (5.0 MiB). Name what they do not need in "
        f"{tmp_path}/.automlignore"
    )


# What arrives --------------------------------------------------------------------------------

Change = Callable[[tarfile.TarInfo], None]


def crafted(name: str, change: Change = lambda entry: None, *, data: bytes = b"evil") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        change(entry)
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def of_type(kind: bytes, link: str = "") -> Change:
    def change(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname, entry.size = kind, link, 0
        entry.devmajor, entry.devminor = 1, 5

    return change


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (crafted("../evil"), "outside of its folder"),
        (crafted("a/../../evil"), "outside of its folder"),
        (crafted("/tmp/evil"), "outside of its folder"),
        (crafted(".."), "outside of its folder"),
        (crafted("a\\..\\evil"), "outside of its folder"),
        (crafted("link", of_type(tarfile.SYMTYPE, "/etc/passwd")), "no plain file"),
        (crafted("link", of_type(tarfile.LNKTYPE, "../../etc/passwd")), "no plain file"),
        (crafted("null", of_type(tarfile.CHRTYPE)), "no plain file"),
        (crafted("disk", of_type(tarfile.BLKTYPE)), "no plain file"),
        (crafted("pipe", of_type(tarfile.FIFOTYPE)), "no plain file"),
        (crafted("folder", of_type(tarfile.DIRTYPE)), "no plain file"),
        (b"no tar at all, but long enough to look like one" * 30, "cannot be read"),
    ],
    ids=["up", "deep", "absolute", "dots", "backslash", "symlink", "hardlink", "character",
         "block", "fifo", "folder", "noise"],
)  # fmt: skip
def test_an_archive_that_is_up_to_something_is_refused(
    data: bytes, match: str, tmp_path: Path
) -> None:
    place = tmp_path / "cache" / "code"
    with pytest.raises(CheckpointError, match=match):
        unpack(data, place)
    assert list(tmp_path.rglob("*")) == [tmp_path / "cache"]


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("a", "a/b"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(CheckpointError, match="'a/b' twice"):
        unpack(out.getvalue(), tmp_path / "code")


def test_a_snapshot_is_unpacked_once_and_old_ones_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "task.py")
    places = []
    for n in range(22):
        (tmp_path / "task.py").write_text(str(n))
        data = archive_of({"task.py": tmp_path / "task.py"})
        places.append(unpacked(data))
        os.utime(places[-1], (time.time() - 100 + n,) * 2)
    assert places[-1].name == digest_of(data)
    assert [p.is_dir() for p in places] == [False, False, *[True] * 20]
    (places[-1] / "mark").touch()
    assert (unpacked(data) / "mark").exists()
    assert places[0].parent.stat().st_mode & 0o077 == 0


def test_no_half_of_a_forgotten_snapshot_is_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "a.py", "b.py")
    files = {name: tmp_path / name for name in ("a.py", "b.py")}
    first = archive_of(files)
    place = unpacked(first)
    os.utime(place, (0, 0))
    for n in range(20):
        (place.parent / f"{n}").mkdir()

    def killed(folder: Path, **_: object) -> None:
        if folder.is_dir():
            (folder / "a.py").unlink()
            raise SystemExit

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(SystemExit):
        write(tmp_path, "a.py", text="y")
        unpacked(archive_of(files))
    monkeypatch.undo()
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    assert sorted(p.name for p in unpacked(first).iterdir()) == ["a.py", "b.py"]
