"""What goes to workers elsewhere, in place of the files that the user named.

    task file      its folder, as a snapshot; the task is its name in there
    --cmd          the present folder, as a snapshot; the command runs in it
    data           a path or URL that every worker must reach itself; nothing travels
    --space FILE   travels in either case

The driver opens the task from its own copy of the snapshot, so that what was left out is missed
here, within seconds, and not on some worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from automl.archives import archive_of, digest_of
from automl.buckets import is_url
from automl.errors import StudyError
from automl.objects import put
from automl.records import TaskSpec
from automl.snapshots import snapshot, unpacked

_SPACE = ".automl-space"  # folder of the --space file in the snapshot


@dataclass(frozen=True)
class Shipped:
    """The task as it travels: `spec` holds in `folder`, which is the snapshot unpacked here."""

    spec: TaskSpec
    data: bytes | None = None
    folder: Path | None = None

    @property
    def digest(self) -> str:
        return "" if self.data is None else digest_of(self.data)

    def publish(self, place: str) -> None:
        """Lay the snapshot where workers find it, and a sign that this is the place.

        Raises:
            CheckpointError: the place cannot be written.
        """
        put(place, "checkpoints/.here", b"")
        if self.data is not None:
            put(place, f"code/{self.digest}.tar", self.data)


def shipped(spec: TaskSpec, *, leave_out: Iterable[Path]) -> Shipped:
    """Take the snapshot that the task needs; none for what is built in and for data.

    Raises:
        TaskError: the folder is too large, or cannot be read.
    """
    path, extra = Path(spec.source), dict[str, Path]()
    spec = replace(spec, sets=tuple(map(_absolute, spec.sets)))
    data: bytes | None = None
    if spec.space is not None and Path(spec.space).is_file():
        name = f"{_SPACE}/{Path(spec.space).name}"
        extra[name] = Path(spec.space)
        spec = replace(spec, space=name)
    if spec.command:
        data = snapshot(Path.cwd(), leave_out=leave_out, extra=extra)
    elif not is_url(spec.source) and path.suffix == ".py" and path.is_file():
        data = snapshot(path.absolute().parent, leave_out=leave_out, extra=extra)
        spec = replace(spec, source=path.name)
    elif not is_url(spec.source) and path.exists():
        spec = replace(spec, source=str(path.absolute()))
    if data is None and extra:
        data = archive_of(extra)
    if data is None:
        return Shipped(spec)
    try:
        return Shipped(spec, data, unpacked(data))
    except OSError as error:
        raise StudyError(f"cannot unpack the task's code: {error}; set AUTOML_CACHE") from None


def _absolute(text: str) -> str:
    """A --set that names a file, teacher=runs/NAME/best.toml, by a path that holds anywhere."""
    name, _, file = text.partition("=")
    return f"{name}={Path(file).absolute()}" if name == "teacher" and Path(file).is_file() else text
