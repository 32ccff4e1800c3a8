"""Random numbers inside a traced program, drawn as each member alone would draw them.

    trace      ... x = rand([k, 8]) ...                 one draw of all members: depends on the pack
    taken out  program(..., x): x[i] = rand([8]) from member i's own key

`F.dropout`, noise, gumbel softmax and the dropout inside attention come this way; `nn.Dropout`,
whose rate is a member's own, by `substitutes.py`. A draw that takes its odds from the data
(multinomial, poisson) and a permutation cannot be made beforehand: refused, and told by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from automl.errors import RecipeError

_aten: Any = torch.ops.aten
# Each as the method that fills an empty tensor and consumes the generator in the same way, and
# where its numbers stand among the operation's arguments.
_FILLED: dict[Any, tuple[str, slice]] = {
    _aten.bernoulli.p: ("bernoulli_", slice(1, None)),
    _aten.bernoulli_.float: ("bernoulli_", slice(1, None)),
    _aten.uniform_.default: ("uniform_", slice(1, None)),
    _aten.normal_.default: ("normal_", slice(1, None)),
    _aten.exponential_.default: ("exponential_", slice(1, None)),
    _aten.rand.default: ("uniform_", slice(0, 0)),
    _aten.rand_like.default: ("uniform_", slice(0, 0)),
    _aten.randn.default: ("normal_", slice(0, 0)),
    _aten.randn_like.default: ("normal_", slice(0, 0)),
    _aten.normal.float_float: ("normal_", slice(0, 2)),
    _aten.randint.default: ("random_", slice(0, 1)),
    _aten.randint.low: ("random_", slice(0, 2)),
}


@dataclass(frozen=True)
class Drawn:
    """One draw: all members' numbers [k, ...] in memory as the trace had them.

    place: in the program, which is the order in which the generator is consumed.
    fill: makes one member's [...], contiguous, from its module and torch's generator.
    """

    place: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    fill: Callable[[nn.Module, Tensor], None]

    def blank(self, device: torch.device) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=device)

    def draw(self, module: nn.Module, part: Tensor) -> None:
        """Fill one member's `part` of the blank."""
        if part.is_contiguous():
            self.fill(module, part)
        else:  # how torch walks other layouts is its own business
            whole = torch.empty(part.shape, dtype=part.dtype, device=part.device)
            self.fill(module, whole)
            part.copy_(whole)


def taken_out(graph: fx.Graph) -> list[Drawn]:
    """Turn the draws of `graph` into inputs behind those it has, in place; in that order.

    Raises:
        RecipeError: one of them cannot be made beforehand.
    """
    found = list[Drawn]()
    nodes = list(graph.nodes)
    last = [node for node in nodes if node.op == "placeholder"][-1]
    for place, node in enumerate(nodes):
        if not _random(node):
            continue
        if node.target not in _FILLED:
            name = str(node.target).split(".")[1]
            raise RecipeError(f"the model draws random numbers by {name}, which no pack can")
        method, numbers = _FILLED[node.target]
        meta = node.meta
        found.append(
            Drawn(
                place, meta["shape"], meta["stride"], meta["dtype"],
                _filling(method, node.args[numbers]),
            )
        )  # fmt: skip
        with graph.inserting_after(last):
            given = last = graph.placeholder(f"drawn_{len(found)}")
        if str(node.target).split(".")[1].endswith("_"):  # others may look at what it fills
            with graph.inserting_before(node):
                given = graph.call_function(_aten.copy_.default, (node.args[0], given))
        node.replace_all_uses_with(given)
        graph.erase_node(node)
    return found


def first_uses(graph: fx.Graph, inputs: int) -> list[int]:
    """Where in the program each of its last `inputs` inputs is used first."""
    nodes = list(graph.nodes)
    places = {node: i for i, node in enumerate(nodes)}
    given = [node for node in nodes if node.op == "placeholder"]
    return [
        min((places[user] for user in node.users), default=len(nodes))
        for node in given[len(given) - inputs :]
    ]


def _random(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    if node.op != "call_function" or torch.Tag.nondeterministic_seeded not in tags:
        return False
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    return bool(given.get("dropout_p", "dropout_p" not in names))  # attention may draw nothing


def _filling(method: str, numbers: tuple[Any, ...]) -> Callable[[nn.Module, Tensor], None]:
    def fill(module: nn.Module, blank: Tensor) -> None:
        getattr(blank, method)(*numbers)

    return fill
