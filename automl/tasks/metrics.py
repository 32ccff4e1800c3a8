"""Metrics by name: what they measure, which way is better, and which targets they fit.

outputs [n, classes] logits, [n, t, vocabulary] logits, or [n, outputs] values; targets [n],
[n, t] or [n, outputs]. Evaluated once on a whole split, in float64 where it matters.
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
    """A named metric; `value(outputs, targets) -> float`."""

    name: str
    direction: str  # "maximize" | "minimize"
    targets: tuple[str, ...]  # "classes", "values", "tokens"
    value: Callable[[Tensor, Tensor], float]


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of samples whose largest logit is their class."""
    return float((outputs.argmax(-1) == targets).double().mean())


def balanced_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Mean over the classes present of the share of each that is recognized."""
    right = outputs.argmax(-1) == targets
    return float(
        torch.stack([right[targets == c].double().mean() for c in targets.unique()]).mean()
    )


def f1(outputs: Tensor, targets: Tensor) -> float:
    """Macro F1: the mean over classes of 2*hits / (2*hits + false alarms + misses)."""
    guesses, scores = outputs.argmax(-1), []
    for c in torch.cat([targets, guesses]).unique():
        hits = ((guesses == c) & (targets == c)).sum()
        wrong = ((guesses == c) ^ (targets == c)).sum()
        scores.append((2 * hits / (2 * hits + wrong)).double())
    return float(torch.stack(scores).mean())


def auc(outputs: Tensor, targets: Tensor) -> float:
    """Area under the ROC curve; with several classes, the mean of one against the rest.

    Of classes that the split holds; by ranks, ties counted half.
    """
    p, areas = torch.softmax(outputs.double(), -1), []
    for c in range(1, 2) if p.shape[-1] == 2 else range(p.shape[-1]):
        hit = targets == c
        _, place, count = p[:, c].unique(return_inverse=True, return_counts=True)
        ranks = (count.cumsum(0) - (count - 1) / 2)[place]  # tied scores share their mean rank
        n, m = int(hit.sum()), int((~hit).sum())
        if n and m:
            areas.append((float(ranks[hit].sum()) - n * (n + 1) / 2) / (n * m))
    return sum(areas) / len(areas) if areas else math.nan


def log_loss(outputs: Tensor, targets: Tensor) -> float:
    """Cross-entropy in nats, without label smoothing."""
    return float(F.cross_entropy(outputs.flatten(0, -2).double(), targets.flatten()))


def bits_per_char(outputs: Tensor, targets: Tensor) -> float:
    """Cross-entropy of the next character in bits."""
    return log_loss(outputs, targets) / math.log(2)


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """Root of the mean squared error, in the target's unit."""
    return math.sqrt(float((outputs.double() - targets.double()).square().mean()))


def mae(outputs: Tensor, targets: Tensor) -> float:
    """Mean absolute error, in the target's unit."""
    return float((outputs.double() - targets.double()).abs().mean())


def r2(outputs: Tensor, targets: Tensor) -> float:
    """Share of the target's variance that is explained; 1 is perfect, 0 the mean."""
    rest = (outputs.double() - targets.double()).square().sum()
    whole = (targets.double() - targets.double().mean(0)).square().sum()
    return float(1 - rest / whole)


def loss(outputs: Tensor, targets: Tensor) -> float:
    """Cross-entropy of classes or tokens, squared error of values; without regularization."""
    if targets.is_floating_point():
        return float((outputs.double() - targets.double()).square().mean())
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
