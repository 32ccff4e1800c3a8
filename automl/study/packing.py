"""Which trials train together: how many, and who with whom.

    --pack off     every trial alone
    --pack K       K at a time, whatever it gains; what cannot be packed still trains alone
    --pack auto    as many as was measured to be fastest, alone below a gain of 1.15

A worker measures (`automl.train.probing`) when it gets the first trial of a kind of recipe, and
says in its report what packs are worth there. A larger network or batch gains less from a pack, so
one measurement answers for others of its kind: what paid pays for all that is smaller, and what did
not pays for nothing that is larger. In between, what paid is tried: the worker looks, before it
trains such a pack, whether it is faster, and trains its members alone where it is not. Everything
here is a function of the State and of what the strategy asks, and who is packed with whom is
journaled before it trains: a resumed study repeats it.

Under auto, where the executor can, trials at different steps share a pack, and a slot that becomes
free is given to the next trial of the structure, as long as one of those that began the pack
trains: then the strategy is free again to choose another structure. A worker that is killed loses
who stood where, so who ends first may change; packs of `--pack K` begin and stop together, and
repeat themselves whatever is killed.

Trials of batch sizes of one class (`Recipe.padded`) share a pack where a worker has seen that the
smaller batches can be filled up, and what a member of half the size loses by it is less than what
the pack gains it.

A pack that nobody fills is made smaller once a quarter of its slots are free.

Filling packs must not narrow the search. So under auto each time that the strategy chooses a
structure freely, a few new trials may be asked to share it, a quarter of the search's full
trainings; and whoever goes on from a rung is joined by his like, and by nobody new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl.errors import StudyError
from automl.recipe import Recipe
from automl.records import Packing, Segment, Slot
from automl.space.ranges import Value
from automl.space.tree import Space
from automl.study.state import State, StudyConfig

LARGEST = 16  # members; more gain little on a CPU, and are chosen without each other's results
_OWN_LOOPS = ("loop", "command")  # kinds of tasks that train themselves
# What costs most to take apart comes first.
_SORTED_BY = ("optimizer", "transform", "averaging", "batch", "batch_size")
_DRAWN = 64  # recipes that tell how many of a study share the baseline's structure
WORTH = 1.15  # below this gain, what is left of a pack trains one after the other
_FOLLOWING = 0.25  # of a search's full trainings: trials asked to share a structure, each time
_FULL = 0.75  # of a pack's slots in use: below, it pays to make a smaller one
SURE = 4  # members that are packed again where no gain of fewer was measured
STRAYS = 3  # segments of another structure that may turn up while a pack is filled

Ask = Callable[[Segment | None], Segment | None]
"""The strategy's next segment, to train beside the one that is given; None: nothing to do now."""


def checked_pack(text: str) -> str:
    """What --pack was given.

    Raises:
        StudyError: neither auto, off nor a whole number of at least 2.
    """
    if text in ("auto", "off") or (text.isdecimal() and 2 <= int(text) <= 1024):
        return text
    raise StudyError(
        f"--pack {text}: write auto, off, or how many trials to train at once (2..1024)"
    )


def largest_pack(config: StudyConfig, search_fulls: float) -> int:
    """Members of a pack at most: a search of few trainings must see results in between."""
    if config.pack == "off" or config.card.kind in _OWN_LOOPS:
        return 1
    if config.pack != "auto":
        return int(config.pack)
    return max(1, min(LARGEST, int(search_fulls)))


def followers(config: StudyConfig, search_fulls: float) -> float:
    """New trials that may be asked to share a structure, for each time that it was chosen."""
    if config.pack != "auto":
        return math.inf
    space, draws = Space.from_json(config.card.space), np.random.default_rng(config.seed)
    drawn = {Recipe(space.sample(draws), steps=1).structure for _ in range(_DRAWN)}
    return math.inf if len(drawn) == 1 else max(int(search_fulls * _FOLLOWING), 1)


@dataclass(frozen=True)
class Size:
    """How many trials of a structure train together.

    `known` is False where nobody measured: then more than one is what paid for its kind, and the
    worker is to see whether it pays here.
    """

    members: int
    known: bool = True
    found: Packing | None = None  # what was measured, of these or of larger networks


def size_for(recipe: Recipe, state: State, pack: str, largest: int) -> Size:
    """What the study knows of packs of this recipe's structure."""
    if largest < 2:
        return Size(1)
    alone = None
    own = [found for measured, found in state.packings if measured.structure == recipe.structure]
    largest = min([largest, *(found.size for found in own if found.unfit)])
    if largest < 2:
        return Size(1)
    for measured, found in state.packings:
        same = measured.structure == recipe.structure
        if found.unfit:
            continue
        if found.size == 1 and (same or (pack == "auto" and _at_most(measured, recipe))):
            alone = Size(1)
        if same and found.size > 1:
            return _size(found, largest)
    if alone is not None:
        return alone
    if pack != "auto":
        return Size(largest)
    timed = [(r, f) for r, f in state.packings if not f.unfit]
    paying = [f for r, f in timed if f.size > 1 and _at_most(recipe, r)]
    if not paying:
        kin = [f.size for r, f in timed if _kind(r)[0] == _kind(recipe)[0]]
        return Size(min(max(kin, default=1), largest), known=False)
    return _size(max(paying, key=lambda found: found.size), largest)


def declined(recipe: Recipe, state: State) -> bool:
    """Whether packs of this very structure were tried and found not to pay."""
    own = [f.size for measured, f in state.packings if measured.structure == recipe.structure]
    return bool(own) and max(own) == 1


def engine_of(recipe: Recipe, state: State) -> str:
    """What makes the steps of packs of this structure: what the smoke trial found to pay."""
    for measured, found in state.packings:
        if measured.structure == recipe.structure:
            return found.engine
    return "traced"


def paddable(recipe: Recipe, state: State) -> bool:
    """Whether recipes of other batch sizes, of one class, may share packs with this one.

    As was measured of these networks; else of larger ones made by the same choices.
    """
    timed = [(r, f) for r, f in state.packings if f.size > 1]
    own = [f for r, f in timed if r.structure == recipe.structure]
    kin = [f for r, f in timed if _at_most(recipe, r) and _choices(r) == _choices(recipe)]
    return any(found.gain * found.padded >= WORTH for found in own or kin)


def trainings_alike(config: StudyConfig, search_fulls: float) -> float:
    """Full trainings of the baseline's structure that each worker can expect, by drawing recipes.

    As a sampler draws that knows nothing; one that has learnt what is good returns to it.
    """
    space, draws = Space.from_json(config.card.space), np.random.default_rng(config.seed)
    own = Recipe(space.default(), steps=1).structure
    same = sum(Recipe(space.sample(draws), steps=1).structure == own for _ in range(_DRAWN))
    return same / _DRAWN * search_fulls / config.workers


def _size(found: Packing, largest: int) -> Size:
    return Size(min(found.size, largest), found=found)


def _at_most(a: Recipe, b: Recipe) -> bool:
    """Whether a trains a network of b's kind that is nowhere larger, on batches not larger."""
    kind, numbers = _kind(a)
    other, limits = _kind(b)
    return kind == other and all(n <= limits.get(name, n) for name, n in numbers.items())


def _kind(recipe: Recipe) -> tuple[Hashable, dict[str, float]]:
    """The architecture, and all numbers of the structure: widths, depths, batch size."""
    point = recipe.shared
    numbers = {
        n: float(v) for n, v in point.items() if isinstance(v, int | float) and v is not True
    }
    return (point.get("architecture"), point.get("gradient"), *sorted(point)), numbers


def _choices(recipe: Recipe) -> dict[str, Value]:
    """What of the structure is no number."""
    numbers = _kind(recipe)[1]
    return {n: v for n, v in recipe.shared.items() if n not in numbers}


@dataclass
class Group:
    """Segments that train together."""

    segments: list[Segment]
    members: int  # at most
    found: Packing | None = None  # what was measured of such packs
    probe: int = 0  # packs of up to so many are to be measured first; this one, if it has members
    mixed: bool = False  # they may stand at different steps
    padded: bool = False  # their batch sizes may differ

    @property
    def name(self) -> str:
        """Of the pack: no other of the study has it."""
        return f"{self.segments[0].trial}@{self.segments[0].start}"

    @property
    def gain(self) -> float:
        """Expected speed of each of its members against alone; 0: nobody measured."""
        found, members = self.found, len(self.segments)
        if found is None or not found.rows or members < 2:
            return 0.0
        # Timed before it was compiled, where it is.
        return gain_of(found, members) * found.gain / gain_of(found, found.size)

    def takes(self, segment: Segment) -> bool:
        room = len(self.segments) < self.members
        return room and self.key(segment) == self.key(self.segments[0])

    def key(self, segment: Segment) -> Hashable:
        """The same for segments that may be its members."""
        recipe = segment.recipe
        structure = recipe.padded if self.padded else recipe.structure
        return structure if self.mixed else (structure, segment.start, segment.stop, recipe.steps)


class Packer:
    """Puts what the strategy asks for into groups.

    Args:
        mixed: trials at different steps may train together. Worth it where slots are refilled: a
            pack costs as much when half of its members have ended.
    """

    def __init__(self, pack: str, largest: int, *, mixed: bool = False) -> None:
        self._pack, self._largest, self.mixed = pack, largest, mixed
        self._probing: dict[int, Hashable] = {}  # by trial: kinds that are being measured

    def gather(
        self, ask: Ask, free: int, state: State, waiting: Sequence[Segment] = ()
    ) -> list[Group]:
        """Ask for `free` groups of segments, each filled as far as its structure pays.

        Args:
            waiting: segments that were asked for already, and come first.
        """
        self._probing = {t: kind for t, kind in self._probing.items() if t in state.open}
        groups: list[Group] = []
        for segment in waiting:
            self._placed(groups, segment, state)
        for i in range(free):
            while i == len(groups) and (first := ask(None)) is not None:
                self._placed(groups, first, state)  # perhaps in a group that had room
            if i == len(groups):
                break
            group, strays = groups[i], 0
            while len(group.segments) < group.members and strays < STRAYS:
                more = ask(group.segments[0])
                if more is None:
                    break
                strays += self._placed(groups, more, state) is not group
        for group in groups:
            if len(group.segments) == 1 < group.members:
                group.probe = 0  # there is no pack to try
        return groups

    def arranged(self, segments: Sequence[Segment], free: int, state: State) -> list[Group]:
        """Groups of segments that are all known, spread over `free` workers."""
        groups: list[Group] = []
        for segment in segments:
            group = self._placed(groups, segment, state)
            alike = sum(group.key(s) == group.key(segment) for s in segments)
            share = math.ceil(alike / max(free, 1))
            group.members, group.probe = min(group.members, share), 0
        return groups

    def _placed(self, groups: list[Group], segment: Segment, state: State) -> Group:
        """The group that takes the segment: one that is there, or a new one."""
        group = next((g for g in groups if g.takes(segment)), None)
        if group is not None:
            group.segments.append(segment)
            return group
        size = size_for(segment.recipe, state, self._pack, self._largest)
        padded = paddable(segment.recipe, state)
        group = Group([segment], size.members, size.found, mixed=self.mixed, padded=padded)
        kind = _kind(segment.recipe)[0]
        if not size.known and size.members > 1:
            group.probe = size.members
        elif not size.known and kind not in self._probing.values():
            group.probe = self._largest
            self._probing[segment.trial] = kind
        groups.append(group)
        return group


def slots_of(groups: Iterable[Group]) -> dict[int, Slot]:
    """The slot of each trial that is not alone; like methods lie side by side, which is faster."""
    return {
        s.trial: Slot(group.name, place, len(group.segments))
        for group in groups
        if len(group.segments) > 1
        for place, s in enumerate(sorted(group.segments, key=_methods))
    }


def worth_leaving(staying: Sequence[Segment], slot: Slot, state: State) -> bool:
    """Whether the last members of a pack do better in a smaller one.

    A program of K slots costs as much when some of them are empty; on a GPU nearly nothing, and a
    smaller one would have to be compiled again.
    """
    assert state.config is not None
    traced = engine_of(staying[0].recipe, state) == "traced"
    return traced and state.config.card.device == "cpu" and len(staying) < _FULL * slot.size


def size_left(left: Sequence[Segment], state: State) -> int:
    """Slots of the packs in which those that have left one go on: their number, or 1."""
    for measured, found in reversed(state.packings):
        if left and found.rows and found.size > 1 and _at_most(left[0].recipe, measured):
            return len(left) if gain_of(found, len(left)) >= WORTH else 1
    return len(left) if len(left) >= SURE else 1


def gain_of(found: Packing, members: int) -> float:
    """Expected speed of each of so many members: a pack's update takes a + b*members seconds."""
    sizes = [k for k, _, _ in found.rows]
    seconds = float(np.interp(members, sizes, [k * s for k, s, _ in found.rows]))
    return members * found.rows[0][1] / seconds


def slots_left(left: Sequence[Segment], size: int) -> list[Slot]:
    """Their slots in a pack of that size, or each one's own."""
    name = f"{left[0].trial}@{left[0].start} left" if left else ""
    if size > 1:
        return [Slot(name, place, size) for place in range(size)]
    return [Slot(f"{s.trial}@{s.start} left", 0, 1) for s in left]


def _methods(segment: Segment) -> list[str]:
    return [str(segment.recipe.point.get(stage, "")) for stage in _SORTED_BY]


def by_slot(segments: Iterable[Segment], slots: Mapping[int, Slot]) -> list[list[Segment]]:
    """Segments that were handed out already, with the company that they have left."""
    packs: dict[str, list[Segment]] = {}
    for segment in segments:
        slot = slots.get(segment.trial)
        packs.setdefault(f"alone {segment.trial}" if slot is None else slot.pack, []).append(
            segment
        )
    return list(packs.values())


def joins(segment: Segment, staying: Segment, state: State) -> bool:
    """Whether a segment can take a slot beside one that trains on."""
    joining, there = segment.recipe, staying.recipe
    if joining.structure == there.structure:
        return True
    return joining.padded == there.padded and paddable(there, state)
