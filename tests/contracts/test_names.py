"""Every name that the field uses has an answer: a method's file, or where the option lives."""

from __future__ import annotations

import importlib.metadata

import pytest

from automl.methods.options import OPTIONS
from automl.registry import FAMILIES
from automl.space.files import load_space

NAMES = {
    "optimizer": "sgd momentum nesterov rmsprop adagrad adam adamw nadam adafactor adabound lion "
    "sophia_h sophia_g muon namo namo_d m3 deep_momentum shampoo soap kfac ekfac magma cautious "
    "gradient_stabilizer adanorm adagc sisa nsisa lbfgs simmering schedule_free_sgd "
    "schedule_free_adamw prodigy adan mars ademamix lifting lm_ma_es pytorch_optimizer",
    "schedule": "constant linear cosine cosine_restarts step polynomial triangular triangular2 "
    "exp_range one_cycle wsd inverse_sqrt warmup range_test",
    "gradient": "plain sam asam gsam looksam gam gradient_norm_penalty predictive_coding",
    "transform": "clip_norm clip_value agc noise skip spike_skip random_skip easy_skip masking "
    "centralization accumulation coupled_decay "
    "decoupled_decay independent_decay",
    "averaging": "swa ema lookahead lawa tail_averaging",
    "loss": "label_smoothing focal confidence_penalty class_weights distillation",
    "batch": "flip crop flip_crop color color_jitter rand_augment trivial_augment cutout mixup "
    "cutmix feature_noise swap token_drop scored self_paced anti curriculum batch_warmup",
    "architecture": "dropout stochastic_depth batch_norm layer_norm group_norm rms_norm mlp "
    "convnet resnet transformer gru",
    "parametrization": "standard mup",
    "trainer": "early_stopping weight_decay",
}
ALL = [name for names in NAMES.values() for name in names.split()]


@pytest.mark.parametrize("name", ALL)
def test_name_is_answered(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="automl")
    assert script.load()(["methods", name]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith((f"{name}, a", f"{name} is "))


def test_options_lead_to_methods_that_hold_them() -> None:
    for name, option in OPTIONS.items():
        assert not any(f.has(name) for f in FAMILIES.values()), name
        for method in option.methods:
            key, _, own = method.partition(".")
            assert own in FAMILIES[key].names(), f"{name}: {method}"
        for word in option.words.replace(",", " ").replace("=", " ").split():
            key, *rest = word.split(".")
            if key in FAMILIES and len(rest) == 2 and rest[0] != "NAME":
                assert rest[1] in FAMILIES[key].get(rest[0]).ranges, word


@pytest.mark.parametrize("key", FAMILIES)
def test_every_method_and_each_of_its_numbers_can_be_set(key: str) -> None:
    family = FAMILIES[key]
    for name in family.names():
        ranges = family.get(name).ranges
        sets = [f"{key}={name}"]
        for hyper, range_ in ranges.items():
            default = range_.default
            text = str(default).lower() if isinstance(default, bool) else str(default)
            sets.append(f"{key}.{name}.{hyper}={text}")
        point = load_space("training", sets=sets).default()
        assert point[key] == name
        for hyper, range_ in ranges.items():
            assert point[f"{key}.{name}.{hyper}"] == range_.default, f"{key}.{name}.{hyper}"
