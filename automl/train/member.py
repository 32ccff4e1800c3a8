"""One segment on its way to its stop, and groups of them that are trained as one program."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

import torch

from automl.recipe import Recipe
from automl.records import Metrics, Report, Segment, Status
from automl.tasks.task import Task
from automl.train.patience import Patience


@dataclass(eq=False)
class Member:
    """One segment on its way: what its report will say."""

    segment: Segment
    at: int  # study steps trained
    furthest: int | None = None  # step of its own checkpoint to go on from
    curve: list[tuple[int, Metrics]] = field(default_factory=list)
    seconds: float = 0.0
    passes: float = 0.0
    test: Metrics | None = None
    row: int = 0  # in the program's tensors
    patience: Patience | None = None
    costs: Metrics | None = None  # that the task asks for, measured once a segment
    saved: float = 0.0  # when, on the clock of time.perf_counter

    @property
    def recipe(self) -> Recipe:
        """With the values in force where the member stands."""
        return self.segment.recipe.at(self.at)

    @property
    def there(self) -> bool:
        """Whether it stands at its stop."""
        return self.at == self.segment.stop

    def tested(self, wanted: bool) -> bool:
        return self.test is not None or not wanted

    def report(
        self,
        task: Task,
        status: Status,
        *,
        message: str = "",
        traceback: str = "",
        packed: int = 1,
    ) -> Report:
        return Report(
            trial=self.segment.trial,
            start=self.segment.start,
            reached=self.at,
            status=status,
            curve=tuple(self.curve),
            seconds=self.seconds,
            passes=self.passes,
            device=task.card.device,
            memory_mib=peak_memory_mib(task.card.device),
            test=self.test,
            message=message,
            traceback=traceback,
            packed=packed,
        )


@dataclass(frozen=True)
class Group:
    """Segments that walk together: one after the other, or as a program of `size` members."""

    members: list[Member]
    size: int = 1
    places: tuple[int, ...] = ()  # of the members, where size > 1

    def apart(self, *, halves: bool) -> list[Group]:
        """The same segments in smaller groups, from where their checkpoints stand."""
        if not halves or self.size < 4:
            return [Group([m]) for m in self.members]
        half = (self.size + 1) // 2
        parts: dict[int, list[tuple[Member, int]]] = {}
        for member, place in zip(self.members, self.places, strict=True):
            parts.setdefault(place // half, []).append((member, place % half))
        return [
            Group([m for m, _ in part], min(half, self.size - i * half), tuple(p for _, p in part))
            for i, part in parts.items()
        ]


def peak_memory_mib(device: str) -> float:
    """Peak of this process, or of its share of the GPU, in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
