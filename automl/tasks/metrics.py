"""Metrics by name: what they measure, which way is better, and which targets they fit.

outputs [n, classes] logits, [n, t, vocabulary] logits, or [n, outputs] values; targets [n],
[n, t] or [n, outputs]. Evaluated once on a whole split, in float64 where it matters. A value is a
0-dim tensor where the outputs are: a device is not waited for until somebody reads it, and whoever
evaluates many networks reads all of theirs at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.errors import TaskError
from automl.registry import nearest


@dataclass(frozen=True)
class Metric:
    """A named metric; `value(outputs, targets)` is a 0-dim tensor, or a number of the user's."""

    name: str
    direction: str  # "maximize" | "minimize"
    targets: tuple[str, ...]  # "classes", "values", "tokens"
    value: Callable[[Tensor, Tensor], Tensor | float]


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of samples whose largest logit is their class."""
    return (outputs.argmax(-1) == targets).double().mean()


def balanced_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes present of the share of each that is recognized."""
    classes = torch.arange(outputs.shape[-1], device=outputs.device)[:, None]
    own = targets == classes
    hits = (own & (outputs.argmax(-1) == targets)).double().sum(1)
    return (hits / own.sum(1)).nanmean()  # 0 / 0 where a class is absent


def f1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Macro F1: the mean over classes of 2*hits / (2*hits + false alarms + misses).

    Of classes that occur, as targets or as guesses.
    """
    classes = torch.arange(outputs.shape[-1], device=outputs.device)[:, None]
    own, guessed = targets == classes, outputs.argmax(-1) == classes
    hits, wrong = (own & guessed).double().sum(1), (own ^ guessed).sum(1)
    return (2 * hits / (2 * hits + wrong)).nanmean()


def auc(outputs: Tensor, targets: Tensor) -> Tensor:
    """Area under the ROC curve; with several classes, the mean of one against the rest.

    Of classes that the split holds; by ranks, ties counted half.
    """
    p, areas = torch.softmax(outputs.double(), -1), []
    for c in range(1, 2) if p.shape[-1] == 2 else range(p.shape[-1]):
        scores, hit = p[:, c].contiguous(), targets == c
        order = scores.sort().values
        # Tied scores share their mean rank: between the first of them and the last.
        first, last = (
            torch.searchsorted(order, scores),
            torch.searchsorted(order, scores, right=True),
        )
        ranks = (first + last + 1).double() / 2
        n, m = hit.sum(), (~hit).sum()
        areas.append(((ranks * hit).sum() - n * (n + 1) / 2) / (n * m))  # 0 / 0 of an absent class
    return torch.stack(areas).nanmean()


def log_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, without label smoothing."""
    return F.cross_entropy(outputs.flatten(0, -2).double(), targets.flatten())


def bits_per_char(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the next character in bits."""
    return log_loss(outputs, targets) / math.log(2)


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Root of the mean squared error, in the target's unit."""
    return (outputs.double() - targets.double()).square().mean().sqrt()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error, in the target's unit."""
    return (outputs.double() - targets.double()).abs().mean()


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of the target's variance that is explained; 1 is perfect, 0 the mean."""
    rest = (outputs.double() - targets.double()).square().sum()
    whole = (targets.double() - targets.double().mean(0)).square().sum()
    return 1 - rest / whole


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of classes or tokens, squared error of values; without regularization."""
    if targets.is_floating_point():
        return (outputs.double() - targets.double()).square().mean()
    return log_loss(outputs, targets)


_CLASSES, _VALUES, _TOKENS = ("classes",), ("values",), ("tokens",)
METRICS = {
    m.name: m
    for m in (
        Metric("accuracy", "maximize", ("classes", "tokens"), accuracy),
        Metric("balanced_accuracy", "maximize", _CLASSES, balanced_accuracy),
        Metric("f1", "maximize", _CLASSES, f1),
        Metric("auc", "maximize", _CLASSES, auc),
        Metric("log_loss", "minimize", ("classes", "tokens"), log_loss),
        Metric("rmse", "minimize", _VALUES, rmse),
        Metric("mae", "minimize", _VALUES, mae),
        Metric("r2", "maximize", _VALUES, r2),
        Metric("bits_per_char", "minimize", _TOKENS, bits_per_char),
        Metric("loss", "minimize", ("classes", "values", "tokens"), loss),
    )
}
DEFAULT = {"classes": "accuracy", "values": "rmse", "tokens": "bits_per_char"}


def metric_for(name: str | None, target: str) -> Metric:
    """The metric called `name`, or the usual one, for targets of a kind.

    Raises:
        TaskError: unknown, or made for other targets.
    """
    name = name or DEFAULT[target]
    fitting = [m.name for m in METRICS.values() if target in m.targets]
    if name not in METRICS:
        raise TaskError(
            f"no metric named '{name}'{nearest(name, fitting)}; for {target}: {', '.join(fitting)}"
        )
    if target not in METRICS[name].targets:
        raise TaskError(f"metric '{name}' does not fit {target}; use one of: {', '.join(fitting)}")
    return METRICS[name]


def direction_of(name: str, stated: object = None) -> str:
    """Which way a metric of the user's is better: as stated, as known, or by its name."""
    if stated is not None:
        return "maximize" if stated else "minimize"
    if name in METRICS:
        return METRICS[name].direction
    words = name.lower().replace("/", "_").replace("-", "_").split("_")
    small = ("loss", "error", "err", "rmse", "mse", "mae", "mape", "nll", "ppl", "perplexity")
    return "minimize" if any(w in small for w in words) else "maximize"
