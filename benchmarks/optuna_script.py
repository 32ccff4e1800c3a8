"""What a good user writes today: Optuna's TPE with a pruner over AdamW, warm-up and cosine.

Learning rate, weight decay, dropout, label smoothing, batch size and width are searched; every
epoch is reported to the pruner. It trains on the very tensors that `automl tune` trains on.
Runs until its process has used `--cpu-seconds`, or `--trials`; prints one JSON line a finished
or pruned trial: CPU seconds so far, best validation value, and the test value of that trial.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import optuna
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.records import TaskSpec
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask


def network(task: ModelTask, width: int, dropout: float) -> nn.Module:
    """A plain convnet for images, a plain MLP for rows."""
    shape = task.shape
    if shape.kind == "image":
        layers: list[nn.Module] = []
        channels = shape.features[0]
        for factor in (1, 2, 4):
            out = width * factor
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
            channels = out
        head: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
        return nn.Sequential(*layers, *head, nn.Linear(channels, shape.outputs))
    wide = 4 * width
    return nn.Sequential(
        nn.Linear(shape.features[0], wide), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(wide, wide), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(wide, shape.outputs),
    )  # fmt: skip


def train(
    task: ModelTask, trial: optuna.Trial, epochs: int, classes: bool, sign: float
) -> tuple[float, float]:
    """Train one trial to its end, or until it is pruned; its validation and test value."""
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    decay = trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.5)
    smoothing = trial.suggest_float("label_smoothing", 0.0, 0.2) if classes else 0.0
    batch = trial.suggest_categorical("batch_size", [32, 64, 128, 256])
    width = trial.suggest_int("width", 16, 64, log=True)
    torch.manual_seed(trial.number)
    net = network(task, width, dropout)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=decay)
    x, y = task.train.x, task.train.y
    assert x is not None
    assert y is not None
    steps = math.ceil(len(x) / batch)
    total, warm = epochs * steps, max(1, epochs * steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda t: min((t + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(t / total, 1.0)))),
    )
    best = (-math.inf, math.nan)
    for epoch in range(epochs):
        net.train()
        for index in torch.randperm(len(x)).split(batch):
            if len(index) < 2:
                continue
            output = net(x[index])
            if classes:
                loss = F.cross_entropy(output, y[index], label_smoothing=smoothing)
            else:
                loss = F.mse_loss(output, y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        valid = sign * score(task, net, "valid")
        if math.isnan(valid):
            raise optuna.TrialPruned
        if valid > best[0]:
            best = (valid, score(task, net, "test"))
        trial.report(valid, epoch)
        if trial.should_prune():
            trial.set_user_attr("best", best)
            raise optuna.TrialPruned
    return best


@torch.no_grad()
def score(task: ModelTask, net: nn.Module, split: str) -> float:
    net.eval()
    part = getattr(task, split)
    outputs: list[Tensor] = [net(x) for x in part.x.split(1000)]
    return float(task.evaluate(torch.cat(outputs), part.y)[task.card.metric])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("--target")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pruner", choices=["median", "hyperband"], default="median")
    parser.add_argument("--cpu-seconds", type=float, default=math.inf)
    parser.add_argument("--trials", type=int, default=10_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = open_task(TaskSpec(args.task, target=args.target))
    assert isinstance(task, ModelTask)
    sign = 1.0 if task.card.direction == "maximize" else -1.0
    classes = task.shape.target == "classes"
    pruner: optuna.pruners.BasePruner = (
        optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
        if args.pruner == "median"
        else optuna.pruners.HyperbandPruner(min_resource=2, max_resource=args.epochs)
    )
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=args.seed), pruner=pruner
    )
    best = (-math.inf, math.nan)
    for _ in range(args.trials):
        if time.process_time() > args.cpu_seconds:
            break
        trial = study.ask()
        try:
            found = train(task, trial, args.epochs, classes, sign)
            study.tell(trial, found[0])
        except optuna.TrialPruned:
            found = trial.user_attrs.get("best", (-math.inf, math.nan))
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        best = max(best, (found[0], found[1]))
        line = {"cpu": time.process_time(), "trial": trial.number}
        print(json.dumps({**line, "valid": sign * best[0], "test": best[1]}), flush=True)


if __name__ == "__main__":
    main()
