"""Our optimizers as an ordinary torch.optim.Optimizer, for a training loop of one's own.

    optimizer = TorchOptimizer(model.parameters(), "lion", lr=3e-4)

The same functions as in a study, on one flat row of weights: matrices (ndim >= 2) first, which
are decayed, then biases and norms. Learning-rate schedulers of torch work on it. `state_dict`
holds everything; a run that loads it goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from automl.errors import MethodError
from automl.methods.stages import Hyper, Layout, Optimizer, Role, Slot, hyper_tensors
from automl.registry import family, nearest


class TorchOptimizer(torch.optim.Optimizer):
    """The optimizer `name` with hyperparameters `hyper`; those not given take their defaults.

    The last matrix counts as the output layer, which Muon leaves to AdamW. A parameter without a
    gradient counts as one with gradient 0: freeze by leaving it out.

    Raises:
        MethodError: no such optimizer, or it has no such hyperparameter.
    """

    def __init__(self, params: Iterable[nn.Parameter], name: str, **hyper: float) -> None:
        method = family("optimizer").get(name)
        assert isinstance(method, Optimizer)
        for given in hyper:
            if given not in method.ranges:
                raise MethodError(f"{name} has no '{given}'{nearest(given, method.ranges)}")
        if method.looks:
            raise MethodError(f"{name} looks at the loss on its own; torch's step() cannot tell it")
        defaults = {n: r.default for n, r in method.ranges.items()} | hyper
        super().__init__(list(params), defaults)
        if len(self.param_groups) > 1:
            raise MethodError("TorchOptimizer takes one group of parameters")
        self._method = method
        ordered = sorted(self.param_groups[0]["params"], key=lambda p: p.ndim < 2)
        self._parameters: list[Tensor] = ordered
        self._layout = _layout(ordered)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        w = _row(self._parameters)
        g = _row([torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters])
        state = self._state(w)
        t, hyper = state["t"].add_(1), dict(self._hyper(w))
        if self._method.draw is not None:
            hyper |= self._method.draw(self._layout, _Random(int(t), w))
        self._method.step(w, g, state, hyper, t, self._layout)
        torch._foreach_copy_(self._parameters, self._split(w))
        return loss

    @torch.no_grad()
    def evaluated(self) -> list[Tensor]:
        """The weights to evaluate and keep, in the order of `params`; mostly w itself."""
        w = _row(self._parameters)
        if self._method.evaluated is not None:
            w = self._method.evaluated(w, self._state(w), self._hyper(w))
        parts = {id(p): part for p, part in zip(self._parameters, self._split(w), strict=True)}
        return [parts[id(p)] for p in self.param_groups[0]["params"]]

    def _state(self, w: Tensor) -> dict[str, Tensor]:
        # Kept under the first parameter, where torch's own state_dict and load_state_dict find it.
        state: dict[str, Any] = self.state[self._parameters[0]]
        if not state:
            state.update(self._method.init(w, self._layout), t=w.new_zeros(1, 1))
        return state

    def _hyper(self, w: Tensor) -> Hyper:
        group = self.param_groups[0]
        values = {n: group[n] for n in self._method.ranges}
        return hyper_tensors([values | {"factor": 1.0}], device=w.device, dtype=w.dtype)

    def _split(self, w: Tensor) -> list[Tensor]:
        return [self._layout.view(w, slot)[0] for slot in self._layout.slots]


class _Random:
    """Random numbers of one step, the same in every run of as many steps."""

    def __init__(self, step: int, like: Tensor) -> None:
        self._generator = torch.Generator().manual_seed(step)
        self._device = like.device

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(1, *shape, generator=self._generator).to(self._device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=self._generator).to(self._device)

    def permutation(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self._generator)[None].to(self._device)

    def beta(self, alpha: Tensor) -> Tensor:
        pair = torch._standard_gamma(alpha.cpu().expand(1, 2), generator=self._generator)
        return (pair[:, :1] / pair.sum()).to(self._device)


def _row(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.reshape(1, -1) for x in tensors], dim=1)


def _layout(parameters: list[Tensor]) -> Layout:
    slots: list[Slot] = []
    matrices = sum(p.ndim >= 2 for p in parameters)
    offset = 0
    for i, p in enumerate(parameters):
        role: Role = "vector" if i >= matrices else "output" if i == matrices - 1 else "matrix"
        slots.append(Slot(str(i), tuple(p.shape), offset, role))
        offset += p.numel()
    return Layout(tuple(slots), offset, sum(s.numel for s in slots[:matrices]))
