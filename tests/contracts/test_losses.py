"""Promises of every loss: torch's values where torch has it, one value a sample, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from automl.methods.stages import Hyper, Loss
from automl.registry import family
from automl.space.ranges import Choice

NAMES = family("loss").names()


def loss_method(name: str) -> Loss:
    method = family("loss").get(name)
    assert isinstance(method, Loss)
    return method


CASES = [
    pytest.param(name, target, id=f"{name} of {target}")
    for name in NAMES
    for target in loss_method(name).targets
]
every_case = pytest.mark.parametrize(("name", "target"), CASES)


def pairs(target: str) -> tuple[Tensor, Tensor]:
    """Outputs and targets of 6 samples, float64."""
    generator = torch.Generator().manual_seed(2)
    if target == "values":
        output = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        return output, 2 * torch.randn(6, 3, generator=generator, dtype=torch.float64)
    places = (6, 5) if target == "tokens" else (6,)
    output = torch.randn(*places, 4, generator=generator, dtype=torch.float64)
    return output, torch.randint(4, places, generator=generator)


def hyper(name: str, **given: float) -> Hyper:
    default = {n: r.default for n, r in loss_method(name).ranges.items()}
    asked = {"progress": torch.tensor(0.25), "shares": torch.tensor([0.5, 0.3, 0.15, 0.05])}
    asked["teacher"] = torch.tensor([1.0, -1.0, 0.5, 0.0])  # the same for every sample
    return {
        **{n: torch.tensor(float(v), dtype=torch.float64) for n, v in {**default, **given}.items()},  # type: ignore[arg-type]
        **{n: asked[n].double() for n in loss_method(name).needs},
    }


@every_case
def test_a_sample_gets_one_value_that_no_other_sample_changes(name: str, target: str) -> None:
    output, y = pairs(target)
    whole = loss_method(name).value(output, y, hyper(name))
    assert whole.shape == (6,)
    alone = torch.cat(
        [loss_method(name).value(output[i : i + 1], y[i : i + 1], hyper(name)) for i in range(6)]
    )
    torch.testing.assert_close(whole, alone)


@every_case
def test_gradients_equal_finite_differences(name: str, target: str) -> None:
    output, y = pairs(target)
    ranges = loss_method(name).ranges.values()
    assert not any(isinstance(r, Choice) for r in ranges)
    for end in ("low", "default", "high"):
        given = {n: float(getattr(r, end)) for n, r in loss_method(name).ranges.items()}
        value = lambda o, given=given: loss_method(name).value(o, y, hyper(name, **given))  # noqa: E731
        assert torch.autograd.gradcheck(value, output.clone().requires_grad_())


@every_case
def test_members_of_a_pack_may_differ_in_the_losss_hyperparameters(name: str, target: str) -> None:
    output, y = pairs(target)
    ends = ("low", "high")
    each = [
        hyper(name, **{n: float(getattr(r, e)) for n, r in loss_method(name).ranges.items()})
        for e in ends
    ]
    stacked = {n: torch.stack([h[n] for h in each]) for n in each[0]}
    packed = torch.vmap(loss_method(name).value)(
        torch.stack([output, 2 * output]), torch.stack([y, y]), stacked
    )
    torch.testing.assert_close(packed[0], loss_method(name).value(output, y, each[0]))
    torch.testing.assert_close(packed[1], loss_method(name).value(2 * output, y, each[1]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("target", ["classes", "tokens"])
def test_cross_entropy_is_torchs(target: str, smoothing: float) -> None:
    output, y = pairs(target)
    ours = loss_method("cross_entropy").value(
        output, y, hyper("cross_entropy", smoothing=smoothing)
    )
    torchs = F.cross_entropy(
        output.flatten(0, -2), y.flatten(), label_smoothing=smoothing, reduction="none"
    )
    torch.testing.assert_close(ours, torchs.view(6, -1).mean(1))


def test_mse_is_torchs() -> None:
    output, y = pairs("values")
    ours = loss_method("mse").value(output, y, {})
    torch.testing.assert_close(ours, F.mse_loss(output, y, reduction="none").mean(1))


@pytest.mark.parametrize("delta", [0.1, 1.0, 3.0])
def test_huber_is_torchs(delta: float) -> None:
    output, y = pairs("values")
    ours = loss_method("huber").value(output, y, hyper("huber", delta=delta))
    torchs = F.huber_loss(output, y, delta=delta, reduction="none").mean(1)
    torch.testing.assert_close(ours, torchs)


def test_label_smoothing_by_hand() -> None:
    # Four equal logits: every class has p = 1/4, so any smoothing of the target gives ln 4.
    output, y = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([2])
    value = loss_method("cross_entropy").value(output, y, hyper("cross_entropy", smoothing=0.1))
    assert math.isclose(float(value), math.log(4), rel_tol=1e-12)
    # Logits (ln 3, 0), p = (3/4, 1/4): 0.9*(-ln 3/4) + 0.1*(-(ln 3/4 + ln 1/4)/2)
    output = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    value = loss_method("cross_entropy").value(
        output, torch.tensor([0]), hyper("cross_entropy", smoothing=0.1)
    )
    by_hand = -0.9 * math.log(3 / 4) - 0.05 * (math.log(3 / 4) + math.log(1 / 4))
    assert math.isclose(float(value), by_hand, rel_tol=1e-12)


def test_focal_loss_by_hand() -> None:
    # Logits (ln 3, 0), p = 3/4: (1/4)^2 * ln(4/3); at gamma 0 it is cross-entropy.
    output = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    y, focal = torch.tensor([0]), loss_method("focal").value
    by_hand = 0.25**2 * math.log(4 / 3)
    assert math.isclose(float(focal(output, y, hyper("focal", gamma=2.0))), by_hand)
    output, y = pairs("tokens")
    cross_entropy = loss_method("cross_entropy").value(output, y, hyper("cross_entropy"))
    torch.testing.assert_close(focal(output, y, hyper("focal", gamma=0.0)), cross_entropy)


def test_focal_loss_of_a_certain_answer_is_zero_with_a_finite_slope() -> None:
    output = torch.tensor([[200.0, 0.0]], requires_grad=True)
    value = loss_method("focal").value(output, torch.tensor([0]), {"gamma": torch.tensor(0.5)})
    value.sum().backward()
    assert value.tolist() == [0.0]
    assert output.grad is not None and output.grad.isfinite().all()


def test_confidence_penalty_by_hand() -> None:
    # Logits (ln 3, 0): ln(4/3) - .1*(3/4 ln(4/3) + 1/4 ln 4).
    output = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    value = loss_method("confidence_penalty").value(
        output, torch.tensor([0]), hyper("confidence_penalty", beta=0.1)
    )
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert math.isclose(float(value), math.log(4 / 3) - 0.1 * entropy)


@pytest.mark.parametrize("name", [n for n in NAMES if loss_method(n).weigh is not None])
def test_weights_of_samples_have_mean_one_and_no_member_changes_anothers(name: str) -> None:
    weigh, values = loss_method(name).weigh, torch.rand(2, 40, dtype=torch.float64)
    assert weigh is not None
    found = weigh(values[0], hyper(name))
    assert found.shape == (40,)
    assert (found >= 0).all()
    torch.testing.assert_close(found.mean(), torch.tensor(1.0).double())
    stacked = {n: torch.stack([h, h]) for n, h in hyper(name).items()}
    torch.testing.assert_close(torch.vmap(weigh)(values, stacked)[0], found)


def test_self_paced_learning_takes_the_easy_share_by_hand() -> None:
    weigh = loss_method("self_paced").weigh
    assert weigh is not None
    values = torch.tensor([0.9, 0.1, 0.5, 0.7], dtype=torch.float64)
    given = hyper("self_paced", start=0.5, full=0.5)
    # A quarter of the training is half of the way: .5 + .5*.5 = .75, the three easiest of four.
    assert weigh(values, given).tolist() == pytest.approx([0, 4 / 3, 4 / 3, 4 / 3])
    begun = {**given, "progress": torch.tensor(0.0).double()}
    assert weigh(values, begun).tolist() == [0, 2, 2, 0]
    over = {**given, "progress": torch.tensor(0.6).double()}
    assert weigh(values, over).tolist() == [1, 1, 1, 1]


def test_class_weights_are_torchs_and_mean_one_over_the_data() -> None:
    output, y = pairs("classes")
    given = hyper("class_weights", balance=1.0)
    v = 1 / given["shares"] / 4  # each class has the same say
    torchs = F.cross_entropy(output, y, weight=v, reduction="none")
    torch.testing.assert_close(loss_method("class_weights").value(output, y, given), torchs)
    half = given["shares"] ** -0.5
    torchs = F.cross_entropy(
        output, y, weight=half / (given["shares"] * half).sum(), reduction="none"
    )
    given = hyper("class_weights", balance=0.5)
    torch.testing.assert_close(loss_method("class_weights").value(output, y, given), torchs)
