"""Operations of a recorded program that change nothing, left out: vmap and autograd leave many.

    expand, view ... to the shape and strides that x has        x
    transpose of the transpose of x                             x
    what was computed before, from the same                     the first of the two

The numbers stay the same bit for bit. The last line holds as long as nobody writes into a
tensor: a program that does (batch norm's statistics) repeats what it repeats.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

_aten: Any = torch.ops.aten
_VIEWS = {_aten.expand.default, _aten.view.default, _aten._unsafe_view.default}


def tidy(graph: fx.Graph) -> None:
    """Change the graph of a `Tape` in place, random draws taken out."""
    called = [node for node in graph.nodes if node.op == "call_function"]
    writes = any(_schema(node).is_mutable for node in called if _schema(node))
    seen: dict[str, fx.Node] = {}
    for node in called:
        same = _unchanged(node)
        if same is None and not writes:
            same = seen.setdefault(f"{node.target} {node.args} {node.kwargs}", node)
        if same is not None and same is not node:
            node.replace_all_uses_with(same)
            graph.erase_node(node)


def _unchanged(node: fx.Node) -> fx.Node | None:
    """The argument that the node gives back as it is, if it does."""
    x = node.args[0] if node.args else None
    if not isinstance(x, fx.Node):
        return None
    if node.target in _VIEWS:
        return x if _lie(x) == _lie(node) else None
    if node.target is _aten.transpose.int and x.target is _aten.transpose.int:
        before = x.args[0]
        assert isinstance(before, fx.Node)
        return before if _lie(before) == _lie(node) and x.args[1:] == node.args[1:] else None
    return None


def _lie(node: fx.Node) -> tuple[object, ...]:
    return tuple(node.meta.get(key) for key in ("shape", "stride", "dtype"))


def _schema(node: fx.Node) -> Any:
    return getattr(node.target, "_schema", None)
