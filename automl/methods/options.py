"""Names by which people ask for a thing that is an option here: of a method, or of the training.

A method is one file and its name the file's. Some of what the literature names alone is a number
of another method (label smoothing, Nesterov's momentum), a way of chaining, or the trainer's own
affair (accumulation). This table says where each lives; `automl methods NAME` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """Where a name lives.

    words: how to switch it on, one line. methods: the "family.name" pairs that hold it, the usual
    one first; empty for what belongs to the trainer.
    """

    words: str
    methods: tuple[str, ...] = ()


def _number(method: str, *hyper: str, more: str = "") -> Option:
    names = " and ".join(f"{method}.{h}" for h in hyper)
    return Option(f"the hyperparameter {names}{more}", (method,))


_NORMS = "architecture.{0}.norm={1}, a choice of the network"
_WARMED = (
    "cosine", "linear", "constant", "wsd", "inverse_sqrt", "polynomial", "step", "cosine_restarts",
)  # fmt: skip

OPTIONS: Mapping[str, Option] = {
    # optimizers
    "momentum": _number("optimizer.sgd", "momentum"),
    "nesterov": _number("optimizer.sgd", "nesterov"),
    "deep_momentum": Option(
        "optimizer=m3: momentum on several time scales (nested learning)", ("optimizer.m3",)
    ),
    "nested_learning": Option("optimizer=m3", ("optimizer.m3",)),
    "update_masking": Option(
        "optimizer=magma masks updates; transform=masking masks gradients",
        ("optimizer.magma", "transform.masking"),
    ),
    "pytorch_optimizer": Option(
        "optimizer=pytorch_optimizer:NAME takes any class of that library, such as "
        "pytorch_optimizer:ADOPT; such trials train alone, not in packs"
    ),
    # schedules
    "warmup": Option(
        "schedule.NAME.warmup, the share of the training over which the rate rises; every schedule "
        "has it but those that rise and fall by themselves",
        tuple(f"schedule.{s}" for s in _WARMED),
    ),
    "inverse_square_root": Option("schedule=inverse_sqrt", ("schedule.inverse_sqrt",)),
    "cyclical": Option(
        "schedule=triangular, triangular2 or exp_range",
        ("schedule.triangular", "schedule.triangular2", "schedule.exp_range"),
    ),
    # transforms
    "gradient_noise": Option("transform=noise", ("transform.noise",)),
    "spike_skip": _number("transform.skip", "spike"),
    "random_skip": _number("transform.skip", "p"),
    "easy_skip": _number("transform.skip", "easy"),
    "adaptive_clipping": Option("transform=agc", ("transform.agc",)),
    "accumulation": Option(
        "accumulate=N: a batch goes through the network in N parts, one update for all of them"
    ),
    # averaging
    "tail_averaging": Option("averaging=lawa", ("averaging.lawa",)),
    # losses
    "label_smoothing": _number("loss.cross_entropy", "smoothing"),
    # batches
    "flip": _number("batch.flip_crop", "flip"),
    "crop": _number("batch.flip_crop", "share"),
    "color": Option("batch=color_jitter", ("batch.color_jitter",)),
    "curriculum": Option(
        "batch=scored or anti choose samples, loss=self_paced weighs them",
        ("batch.scored", "batch.anti", "loss.self_paced"),
    ),
    # architectures
    "dropout": Option(
        "architecture.NAME.dropout, every shipped network's; in a network of one's own an "
        'annotated argument, dropout: "0..0.5" = 0.1',
        ("architecture.mlp", "architecture.convnet", "architecture.transformer"),
    ),
    "stochastic_depth": Option(
        "architecture.resnet.drop_path, architecture.transformer.drop_path",
        ("architecture.resnet", "architecture.transformer"),
    ),
    "batch_norm": Option(_NORMS.format("mlp", "batch"), ("architecture.mlp",)),
    "layer_norm": Option(_NORMS.format("mlp", "layer"), ("architecture.mlp",)),
    "group_norm": Option(_NORMS.format("convnet", "group"), ("architecture.convnet",)),
    "rms_norm": Option(_NORMS.format("mlp", "rms"), ("architecture.mlp",)),
    # the trainer
    "early_stopping": Option(
        "patience=N: a training ends after N evaluations in a row without a gain and keeps its "
        "best weights, an average's where there is one; the budget pays for the passes made. "
        "Between trials, --strategy asha or hyperband stops the worse ones"
    ),
    "weight_decay": Option(
        "optimizer.NAME.wd, decoupled where the optimizer has it; else as a transform",
        (
            "optimizer.adamw",
            "transform.coupled_decay",
            "transform.decoupled_decay",
            "transform.independent_decay",
        ),
    ),
}
