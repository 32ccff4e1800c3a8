"""The stages of a training step, and what a method of each family provides.

    batch -> architecture + loss -> gradient -> transform -> optimizer x schedule -> averaging

Shapes: k members, p weights of one member laid flat, b samples. Everything that trains carries
the leading axis k, so a method is written once for one trial and for a pack of them:

- weights, gradients and state are flat buffers [k, p] (`Layout` gives the matrix views), changed
  in place; per-member scalars of state are [k, 1];
- hyperparameters are tensors [k, 1] (0-dim inside a loss or a model) of the weights' dtype,
  never Python numbers; a switch is 0 or 1; "lr" already holds the schedule's factor, "factor" is
  that factor alone;
- randomness comes only from `Draws`, keyed by each member's seed and step.

A method's functions use torch, the standard library and what stands in their own file, nothing
else of ours but what a file of their folder holds whose name begins with "_": `train_best.py` is
made of their source. Hence also the names: those at the top level of a method's file begin with
the method's name (`_adamw_...` for what is private), so that no two files collide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from automl.registry import Method, family
from automl.space.ranges import Value

Hyper = Mapping[str, Tensor]
State = dict[str, Tensor]

Role = Literal["matrix", "vector", "embedding", "output"]
Scaling = Literal["entry", "gradient", "matrix", "own"]


@dataclass(frozen=True)
class Slot:
    """One parameter tensor inside the flat buffer: weights[:, offset : offset + numel]."""

    name: str
    shape: tuple[int, ...]
    offset: int
    role: Role  # "matrix": hidden, ndim >= 2; "vector": biases, norms; "output": the last matrix

    @property
    def numel(self) -> int:
        count = 1
        for n in self.shape:
            count *= n
        return count


@dataclass(frozen=True)
class Layout:
    """How one member's parameters lie in its row of the flat [k, p] buffer.

    Slots with weight decay come first: `decayed` weights from the left have ndim >= 2 and are
    decayed, the rest (biases, norms) are not.
    """

    slots: tuple[Slot, ...]
    size: int  # p
    decayed: int

    def view(self, flat: Tensor, slot: Slot) -> Tensor:
        """The slot's weights [k, *shape], sharing memory with `flat` [k, p]."""
        part = flat[:, slot.offset : slot.offset + slot.numel]
        return part.view(flat.shape[0], *slot.shape)


@dataclass(frozen=True)
class Growth:
    """How a weight tensor grows with the width of its network, from a base width to the present.

    inputs and outputs are ratios of its fan-in and fan-out, larger that of the larger of both; 1
    where the width does not show. `spread` is the power of the width by which the model's own
    initialization lets the standard deviation fall, `width` the ratio of widths; so the model as
    it was built has width^-spread times the standard deviation that it has at the base width.
    """

    role: Literal["input", "hidden", "output", "vector", "fixed"]
    inputs: float = 1.0
    outputs: float = 1.0
    larger: float = 1.0
    width: float = 1.0
    spread: float = 0.0


@dataclass(frozen=True)
class Shape:
    """What goes into a model and what comes out.

    features: of one sample: (d,) for "vector", (c, h, w) for "image", (t,) for "tokens".
    outputs: classes, or regression targets, or the vocabulary of the next token.
    """

    kind: Literal["vector", "image", "tokens"]
    features: tuple[int, ...]
    outputs: int
    target: Literal["classes", "values", "tokens"]
    vocabulary: int = 0


class Draws(Protocol):
    """Random numbers of one step: the same for a (seed, step) whatever the pack or process.

    Each call is a new site. Leading axis k, dtype float32 unless stated, on the step's device.
    """

    def uniform(self, *shape: int) -> Tensor:
        """[k, *shape] in [0, 1)."""

    def normal(self, *shape: int) -> Tensor:
        """[k, *shape], standard normal."""

    def beta(self, alpha: Tensor) -> Tensor:
        """[k, 1] from Beta(alpha, alpha); alpha [k, 1]."""

    def permutation(self, n: int) -> Tensor:
        """[k, n] int64, a permutation of range(n) for each member."""


@dataclass(frozen=True)
class Batch:
    """Samples of one step, all members: x [k, b, ...], y [k, b, ...].

    With `y2` the loss is weight * loss(y) + (1 - weight) * loss(y2), weight [k, b] (mixup).
    """

    x: Tensor
    y: Tensor
    y2: Tensor | None = None
    weight: Tensor | None = None

    def parts(self, n: int) -> list[Batch]:
        """The samples in at most n parts, of one size but for the last."""
        size = -(-self.x.shape[1] // n)
        if n == 1:
            return [self]
        columns = [
            [None] * n if a is None else a.split(size, dim=1)
            for a in (self.x, self.y, self.y2, self.weight)
        ]
        return [Batch(*column) for column in zip(*columns, strict=False)]


Closure = Callable[..., tuple[Tensor, Tensor]]
"""closure(statistics=True) -> (loss [k], gradient [k, p]) at the present weights.

The gradient is one buffer, overwritten by the next call: clone it to keep it. A call after the
first of a step passes statistics=False: running statistics of batch norm stay as they are.
"""


@dataclass(frozen=True)
class LayerLook:
    """What went into a linear layer or convolution, and how the summed loss leans on its output.

    n samples, t positions of each that share a label (places of an image; else 1). The gradient
    of sample i by the layer's matrix [r, c] is the sum over t of slopes[:, i, t] inputs[:, i, t]^T.
    """

    inputs: Tensor  # [k, n, t, c]
    slopes: Tensor  # [k, n, t, r]


class Looks(Protocol):
    """More looks at a step's batch, for an optimizer that asks: at weights x [k, p] of its choice.

    The present weights stay as they are, so do running statistics of batch norm, and every look of
    a step drops the same units. The trainer counts what it costs; budgets pay for it.
    """

    draws: Draws
    labels: int  # of one member, whose mean the loss is: samples, or tokens

    def loss(self, x: Tensor) -> Tensor:
        """[k]; a third of a pass."""

    def gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """loss [k], gradient [k, p]; one pass."""

    def product(self, x: Tensor, v: Tensor) -> Tensor:
        """The loss's Hessian at x, times v [k, p]; three passes."""

    def sampled(self, x: Tensor) -> Tensor:
        """Gradient [k, p] with labels drawn from what the model itself expects; one pass."""

    def layers(self, x: Tensor) -> dict[str, LayerLook]:
        """By the name of the weight's slot, under labels drawn as in `sampled`; one pass.

        Layers without such a look (recurrent, grouped, shared, normalizing ...) are absent.
        """


class Chain(Protocol):
    """A network whose layers stand in one line, open between them, on a step's batch.

    For a gradient that sends no error through the whole of it. Layers count from 1 to `depth`;
    each begins at a matrix of weights and ends before the next one. Member k's weights are the
    present ones. The trainer counts what it costs; budgets pay for it.
    """

    depth: int

    def states(self, k: int) -> list[Tensor]:
        """Each layer's input, and the last one's output, of a plain forward; once a step, first."""

    def layer(self, k: int, number: int, h: Tensor) -> Tensor:
        """Output of layer `number` for the input h; differentiable."""

    def loss(self, k: int, output: Tensor) -> Tensor:
        """The mean loss of an output [b, ...], 0-dim; differentiable."""

    def gradient(self, k: int, value: Tensor) -> Tensor:
        """[p]: of a 0-dim value by member k's weights."""


def _no_state(w: Tensor, layout: Layout) -> State:
    return {}


def _same_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    return batch


@dataclass(frozen=True, kw_only=True)
class BatchMethod(Method):
    """Augmentation and mixing: apply(batch, draws, hyper) -> Batch, training only.

    A curriculum says which samples a batch is made of: choose(places [k, b], n, hyper) -> [k, b]
    changes the places in 0 .. n - 1 that were drawn, hyper then holds "progress", too, the share
    of the training that is over. With score(x [n, ...], y [n, ...]) -> [n] they are places among
    the samples sorted by it.
    """

    apply: Callable[[Batch, Draws, Hyper], Batch] = _same_batch
    kinds: tuple[str, ...] = ("vector", "image", "tokens")
    choose: Callable[[Tensor, int, Hyper], Tensor] | None = None
    score: Callable[[Tensor, Tensor], Tensor] | None = None


class Make(Protocol):
    """make(name) -> the operation `name` for one place of a network.

    affine: whether its norms scale and shift; in a mixture that would undo the mixture's weights.
    parts: one that serves a `parts`-th of the channels.
    """

    def __call__(self, name: str, *, affine: bool = True, parts: int = 1) -> nn.Module: ...


Place = Callable[[str, Make], nn.Module]
"""place(edge, make) -> what stands on the edge: an operation, or a mixture of several."""


@dataclass(frozen=True, kw_only=True)
class CellSpace:
    """What a weight-sharing search may decide in an architecture.

    build(shape, place, **hyper) makes the network; it calls `place` for every edge of every cell,
    and is given all hyperparameters but the edges. An edge is a hyperparameter of the architecture,
    a Choice of operations; edges of one name share their choice, in whatever cell they stand.
    `nodes` says which edges are summed in a node, in order. An edge keeps the shape of what goes in
    but perhaps for its stride; `channels` is the dimension that holds the channels. `depth` names
    the hyperparameter that counts cells, or is empty where the number is fixed.
    """

    build: Callable[..., nn.Module]
    nodes: Mapping[str, tuple[str, ...]]
    channels: int = 1
    depth: str = "cells"

    @property
    def edges(self) -> tuple[str, ...]:
        return tuple(edge for edges in self.nodes.values() for edge in edges)


@dataclass(frozen=True, kw_only=True)
class Architecture(Method):
    """A network: build(shape, **hyper) -> plain torch module for one member (no axis k).

    `parts` says which hyperparameters name a part, and of which family: {"activation":
    "activation"}. `build` is given what makes that part instead of its name. With `cells` its
    edges can be found by a weight-sharing search.
    """

    build: Callable[..., nn.Module]
    kinds: tuple[str, ...]
    parts: Mapping[str, str] = field(default_factory=dict)
    cells: CellSpace | None = None

    def network(self, shape: Shape, hyper: Mapping[str, Value]) -> nn.Module:
        """The network of these values; defaults for what they leave out."""
        return self.build(shape, **self.arguments(hyper))

    def arguments(self, hyper: Mapping[str, Value]) -> dict[str, Any]:
        """What `build` is given beside the shape."""
        values: dict[str, Any] = {n: r.default for n, r in self.ranges.items()} | dict(hyper)
        for name, key in self.parts.items():
            part = family(key).get(str(values[name]))
            assert isinstance(part, Activation | Operation)
            values[name] = part.make
        return values


@dataclass(frozen=True, kw_only=True)
class Activation(Method):
    """A nonlinearity: make(dim) -> module that keeps the input's shape.

    One whose module has `lanes` = 2 takes twice as many numbers along `dim` and gives half.
    """

    make: Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Operation(Method):
    """What may stand on an edge of a cell: make(width, affine=True) -> module that keeps the shape.

    affine: whether its norms scale and shift; in a mixture that would undo the mixture's weights.
    """

    make: Callable[..., nn.Module]
    kinds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Parametrization(Method):
    """How initial weights and learning rates depend on the width of a network.

    start(growth) is the factor on the initial weights as the model makes them, rate(growth,
    scaling) the one on the learning rate; `scaling` is that of the optimizer for this tensor.
    Where `looks` is false all factors are 1, and nobody needs to know how the weights grow.
    """

    start: Callable[[Growth], float]
    rate: Callable[[Growth, Scaling], float]
    looks: bool = True


@dataclass(frozen=True, kw_only=True)
class Proxy(Method):
    """A guess, before training, of how good a network will be: score(net, x [b, ...]) -> float.

    Higher is better; nan where it cannot tell. `net` is as initialized, `x` one training batch.
    """

    score: Callable[[nn.Module, Tensor], float]


Weights = Callable[[Tensor, Sequence[str], Mapping[str, float], Draws], Tensor]
"""weights(alpha [n], names of the n candidates, hyper, draws) -> [n]; 0: not computed."""


def _softmax(alpha: Tensor) -> Tensor:
    return alpha.softmax(0)


@dataclass(frozen=True, kw_only=True)
class SupernetMethod(Method):
    """A weight-sharing search for an architecture, by what it does otherwise than plain DARTS.

    `hyper` holds the values of `ranges` by name, and "progress", the share of the search that is
    over, and "epoch". A hyperparameter that `darts.search.Settings` knows too is a setting of the
    loop. weights(alpha [n]) -> [n] mixes the candidates of an edge. `noisy` takes its place while
    training, in the weights' steps alone where `shakes` says so, with draws that are an edge's own
    in each update. penalty(alphas, hyper), 0-dim, is added to the alphas' loss. `selection` reads
    the architecture: "argmax", "perturbation" or "paths"; "random" trains no supernet at all.
    """

    weights: Callable[[Tensor], Tensor] = _softmax
    noisy: Weights | None = None
    shakes: bool = False
    penalty: Callable[[Sequence[Tensor], Mapping[str, float]], Tensor] | None = None
    gated: bool = False  # the edges into a node have weights of their own
    learns: bool = True  # whether alphas are moved
    single: bool = False  # one candidate an edge is computed in an update
    selection: str = ""  # "": the hyperparameter "selection" says it


@dataclass(frozen=True, kw_only=True)
class Loss(Method):
    """value(output [b, ...], target [b, ...], hyper of 0-dim tensors) -> [b], one member.

    `weigh(values [b] without their gradient, hyper) -> [b]`, where samples count differently in
    the mean over the batch. `needs` asks the trainer for more in hyper: "progress", 0-dim, the
    share of the training that is over; "shares" [c], of each class in the training data; "teacher"
    [b, ...], another network's outputs for the batch.
    """

    value: Callable[[Tensor, Tensor, Hyper], Tensor]
    targets: tuple[str, ...]
    weigh: Callable[[Tensor, Hyper], Tensor] | None = None
    needs: tuple[Literal["progress", "shares", "teacher"], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Gradient(Method):
    """compute(closure, w, state, hyper, t) -> (loss [k], g [k, p]); leaves w as it found it.

    t [k, 1] counts steps from 1. `passes` is forward-backward passes a step. One with `chain` gets
    a `Chain` as the last argument; `passes` is then what a step costs at the defaults.
    """

    compute: Callable[..., tuple[Tensor, Tensor]]
    init: Callable[[Tensor, Layout], State] = _no_state
    buffers: float = 0  # of state, per weight
    passes: float = 1
    chain: bool = False


@dataclass(frozen=True, kw_only=True)
class Transform(Method):
    """apply(g, w, state, hyper, t, layout, draws): changes the gradient g [k, p] in place.

    A decay of weights may change w [k, p] in place instead. `hyper` holds "factor" and "lr", too:
    the schedule's factor, and the optimizer's rate times that (for one without a rate, the factor).
    """

    apply: Callable[[Tensor, Tensor, State, Hyper, Tensor, Layout, Draws], None]
    init: Callable[[Tensor, Layout], State] = _no_state


@dataclass(frozen=True, kw_only=True)
class Optimizer(Method):
    """step(w, g, state, hyper, t, layout): changes w [k, p] and state in place; g may be spent.

    `evaluated(w, state, hyper) -> [k, p]` gives the weights to evaluate and keep, where they are
    not w itself (schedule-free); `samples(w, state, hyper) -> [k, m, p]` the weights of m networks
    whose mean prediction is evaluated, and which are kept. `draw(layout, draws)` makes a step's
    random numbers, which `step` finds in `hyper` by their names. `reference` is the class that the
    contract test compares with, step by step ("torch.optim.AdamW"); empty where no library has the
    optimizer and the tests tell it a second time.

    `scaling` says how far a step at the rate lr moves the weights, which is what a parametrization
    needs to know:

        "entry"     every weight by about lr, whatever the gradient's size (Adam, signs)
        "gradient"  by lr times the gradient
        "matrix"    hidden matrices by about lr*sqrt(larger side) along every singular direction,
                    all else as "entry" (Muon)
        "own"       by a length that the optimizer finds itself, which no factor on the weights or
                    on the gradient changes (Newton steps, line searches, evolution)

    An optimizer that `looks` gets a `Looks` as the last argument of its step, and may look at
    the loss as often as it needs; `passes` is then what a step costs on average at the defaults.
    """

    step: Callable[..., None]
    init: Callable[[Tensor, Layout], State] = _no_state
    buffers: float  # of state, per weight
    reference: str = ""
    evaluated: Callable[[Tensor, State, Hyper], Tensor] | None = None
    samples: Callable[[Tensor, State, Hyper], Tensor] | None = None
    draw: Callable[[Layout, Draws], dict[str, Tensor]] | None = None
    passes: float = 1
    looks: bool = False
    scaling: Scaling = "entry"


@dataclass(frozen=True, kw_only=True)
class Schedule(Method):
    """factor(step, horizon, **hyper) -> float in [0, 1], step = 0 .. horizon - 1.

    Pure; past the horizon it stays at its last value. `momentum`, where a policy moves it too,
    gives the optimizer's first momentum ("momentum" or "b1") in the same way.
    """

    factor: Callable[..., float]
    momentum: Callable[..., float] | None = None


@dataclass(frozen=True, kw_only=True)
class Averaging(Method):
    """update(w, state, hyper, t, horizon) after each step; evaluated(w, state, hyper) -> [k, p].

    t and horizon [k, 1] count optimizer steps. Batch norm is recalibrated on training data
    before evaluation whenever the evaluated weights are not w. `moves`: update changes w, too.
    """

    init: Callable[[Tensor, Layout], State] = _no_state
    update: Callable[[Tensor, State, Hyper, Tensor, Tensor], None]
    evaluated: Callable[[Tensor, State, Hyper], Tensor]
    moves: bool = False


def hyper_tensors(
    values: Sequence[Mapping[str, Value]],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Hyperparameters of k members as tensors [k, 1]; the same names in each mapping.

    `dtype` is that of the weights. True and False become 1 and 0, so that a switch such as
    Nesterov's is arithmetic and members of one pack may differ in it. Texts are structure, not
    values: they stay out.
    """
    numbers = [n for n, v in values[0].items() if isinstance(v, int | float)]
    return {
        n: torch.tensor([[float(m[n])] for m in values], device=device, dtype=dtype)  # type: ignore[arg-type]
        for n in numbers
    }
