"""The engine of packs: all members' forward and backward as one program, traced once and replayed.

    vmap over members of loss and gradient              how K modules become one program
    taped                                               that program as a list of plain operations

vmap alone costs as much Python a step as it saves below K = 8; the traced list has none of it.
What the trace would freeze wrongly (a member's numbers) goes in as tensors: weights, buffers, loss
hyperparameters, the masks of `nn.Dropout` and what else a model draws at random, as the member
alone would draw it, so that a result does not depend on the pack. Control flow that looks at
values cannot be traced: `declining.py` says so by name.

Traces are kept by structure, number of members and shapes of the batch: a pack that goes on, or
another one like it, pays nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from automl.errors import RecipeError
from automl.train.compiled import Compiled
from automl.train.drawn import Drawn, first_uses, taken_out
from automl.train.fingerprint import fingerprint
from automl.train.keyed_dropout import KeyedDropout, Masks, Use
from automl.train.loop_engine import Pass
from automl.train.packed import Packed
from automl.train.seeding import seed_torch
from automl.train.substitutes import Sites, dropout_rates, substituted
from automl.train.tape import graded, taped
from automl.train.tidying import tidy

_KEPT = 32  # traces; each holds a list of operations, no tensors of the size of the weights

Traced = Callable[..., tuple[Tensor, Tensor]]


class TracedEngine:
    """Losses [k] and gradients [k, p] at the present weights; k > 1.

    Args:
        task: traces are shared among packs of one task, with models of equal fingerprint.
        structure: of the members' recipes.
        sizes: samples of each member's batch, in batches as large as the largest of them.
        compile: run the trace as machine code (`compiled.py`), which costs its seconds first.

    Raises:
        RecipeError: the members' models do not run one program.
    """

    def __init__(
        self,
        packed: Packed,
        *,
        task: object,
        structure: Hashable,
        sizes: Sequence[int],
        compile: bool = False,
    ) -> None:
        self._packed, self._sizes, self._compile = packed, sizes, compile
        first, *others = (fingerprint(m) for m in packed.modules)
        if any(other != first for other in others):
            raise RecipeError("members of a pack differ in their models")
        self._rates = dropout_rates(packed.modules)
        dropping = tuple(name for name, rate in self._rates.items() if rate)
        self._task, self._shared = task, (structure, first, dropping)
        self._made: dict[Hashable, _Trace] = {}
        self._masks: dict[Hashable, Masks | None] = {}

    def __call__(self, work: Pass) -> tuple[Tensor, Tensor]:
        packed, batch = self._packed, work.batch
        data = [batch.x, batch.y, batch.y2, batch.weight]
        shapes = tuple((a.shape, a.stride(), a.dtype) for a in data if a is not None)
        if shapes not in self._made:
            self._made[shapes] = self._trace(work, shapes)
            self._masks[shapes] = self._made[shapes].masks(packed, self._sizes)
        trace, masks = self._made[shapes], self._masks[shapes]
        program = trace.compiled if self._compile else trace.program
        return program(*_inputs(packed, work), *trace.random(packed, work, masks))

    def _trace(self, work: Pass, shapes: Hashable) -> _Trace:
        packed = self._packed
        weights = len(packed.modules), packed.w.dtype, packed.w.device, packed.layout
        key = (id(self._task), self._shared, weights, (*work.hyper, *work.samples), shapes)
        task, trace = _TRACES.get(key, (None, None))
        if trace is None:
            task = self._task  # kept with its trace, so that no other task gets its id
            try:
                trace = _Trace(packed, work, self._rates)
            except RuntimeError:  # a `view` of the model's that wants torch's own layout
                trace = _Trace(packed, work, self._rates, images=False)
            while len(_TRACES) >= _KEPT:
                _TRACES.popitem(last=False)
            _TRACES[key] = task, trace
        _TRACES.move_to_end(key)
        return trace


class _Trace:
    """One traced program, and what it is given at random: dropout masks, then other draws.

    images: laid out in our own way, as is fastest (`side_by_side.py`).
    """

    def __init__(
        self, packed: Packed, work: Pass, rates: Mapping[str, float], *, images: bool = True
    ) -> None:
        self._sites, self._size, self.images = Sites(), len(packed.modules), images
        model = copy.deepcopy(packed.modules[0]).train()
        model = substituted(model, self._sites, rates, images=images)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = fingerprint(model)
            with self._sites.recording(), work.precision():
                model(work.batch.x[0])
            if fingerprint(model) != before:
                raise RecipeError("the model changes its own attributes as it runs")
            whole = _stacked(model, self._sites, packed, work)
            given = _inputs(packed, work)
            # Running the program changes buffers in place: these must not be the members'.
            first = len(packed.views)
            for i, buffer in enumerate(packed.stacked.values(), first):
                given[i] = buffer.clone()
            masks = [x.new_empty(self._size, *x.shape) for _, x in self._sites.uses]
            tape = taped(whole)(*given, *masks)
        places = first_uses(tape.graph, len(masks))
        # Where each random input stands among them: masks in the order of their uses, then draws.
        self._uses, self._hashed = self._keyed(packed.modules[0])
        drawn = {i: self._masking(places[i], i) for i in range(len(masks)) if i not in self._hashed}
        drawn |= dict(enumerate(taken_out(tape.graph), len(masks)))
        self._drawn = dict(sorted(drawn.items(), key=lambda one: one[1].place))
        tidy(tape.graph)
        tape.graph.eliminate_dead_code()
        traced = tape.program()
        self.program: Traced = traced
        self.compiled = Compiled(traced)

    def masks(self, packed: Packed, sizes: Sequence[int]) -> Masks | None:
        """How the masks that are hashed are made for these members, if there are any."""
        return Masks(packed.modules, self._uses, packed.bits, sizes) if self._uses else None

    def random(self, packed: Packed, work: Pass, masks: Masks | None) -> list[Tensor]:
        """All that is random in a pass, [k, ...] each, as each member alone draws it."""
        found: dict[int, Tensor] = {}
        if masks is not None:
            (words,) = work.inputs(lambda: [masks.words(work.keys())])
            found |= zip(self._hashed, masks.of(words), strict=True)
        if self._drawn:
            draws = work.inputs(lambda: self._draws(packed, work.keys()))
            found |= zip(self._drawn, draws, strict=True)
        return [found[i] for i in sorted(found)]

    def _keyed(self, model: nn.Module) -> tuple[list[Use], list[int]]:
        """The uses whose masks are hashed, and where they stand among all uses."""
        uses, places = list[Use](), list[int]()
        for i, (name, ones) in enumerate(self._sites.uses):
            if type(model.get_submodule(name)) is KeyedDropout:
                uses.append(Use(name, ones))
                places.append(i)
        return uses, places

    def _masking(self, place: int, use: int) -> Drawn:
        """The masks of one use of a dropout layer."""
        name, ones = self._sites.uses[use]

        def fill(module: nn.Module, mask: Tensor) -> None:
            self._sites.draw(module.get_submodule(name), ones, mask)

        whole = ones.new_empty(self._size, *ones.shape)
        return Drawn(place, tuple(whole.shape), whole.stride(), whole.dtype, fill)

    def _draws(self, packed: Packed, keys: Sequence[int]) -> list[Tensor]:
        """What torch's generators draw, member by member."""
        found = [(drawn, drawn.blank(packed.w.device)) for drawn in self._drawn.values()]
        for k, (module, key) in enumerate(zip(packed.modules, keys, strict=True)):
            seed_torch(key, packed.w.device)
            for drawn, blank in found:
                drawn.draw(module, blank[k])
        return [blank for _, blank in found]


def _stacked(model: nn.Module, sites: Sites, packed: Packed, work: Pass) -> Traced:
    """All members' losses [k] and gradients [k, p] as a function of the tensors of `_inputs`."""
    names = [slot.name for slot in packed.layout.slots]
    others = list(packed.stacked)
    mixed, hyper = work.batch.y2 is not None, [*work.hyper, *work.samples]

    def member(
        weights: list[Tensor],
        rest: list[Tensor],
        data: list[Tensor],
        numbers: list[Tensor],
        masks: list[Tensor],
    ) -> Tensor:
        values = dict(zip(names, weights, strict=True)) | dict(zip(others, rest, strict=True))
        with sites.using(masks), work.precision():
            output = functional_call(model, values, (data[0],))
        y2, weight = (data[2], data[3]) if mixed else (None, None)
        return work.loss(output, data[1], y2, weight, dict(zip(hyper, numbers, strict=True)))

    counts = [len(names), len(others), 4 if mixed else 2, len(hyper)]

    each: Callable[..., tuple[Sequence[Tensor], Tensor]] = vmap(
        graded(member), randomness="different"
    )

    def whole(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        parts, at = [], 0
        for count in counts:
            parts.append(list(tensors[at : at + count]))
            at += count
        g, losses = each(*parts, list(tensors[at:]))
        return losses, torch.cat([x.reshape(len(x), -1) for x in g], dim=1)

    return whole


def _inputs(packed: Packed, work: Pass) -> list[Tensor]:
    batch, own = work.batch, [*packed.views, *packed.stacked.values()]
    mixed = [] if batch.y2 is None or batch.weight is None else [batch.y2, batch.weight]
    return [*own, batch.x, batch.y, *mixed, *work.hyper.values(), *work.samples.values()]


_TRACES: OrderedDict[Hashable, tuple[object, _Trace]] = OrderedDict()
