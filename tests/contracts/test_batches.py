"""Promises of every augmentation: shapes stay, draws decide all, members do not mix."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from automl.methods.batches._difficulty import difficulty
from automl.methods.batches._image_operations import augmented
from automl.methods.stages import Batch, BatchMethod, hyper_tensors
from automl.registry import family
from automl.space.ranges import Choice, Range, Value
from automl.train.seeding import KeyedDraws

NAMES = family("batch").names()
FEATURES = {"vector": (6,), "image": (3, 8, 10), "tokens": (12,)}
SEEDS = (11, 12, 13)
B = 32


def batch_method(name: str) -> BatchMethod:
    method = family("batch").get(name)
    assert isinstance(method, BatchMethod)
    return method


CASES = [
    pytest.param(name, kind, id=f"{name} of {kind}")
    for name in NAMES
    for kind in batch_method(name).kinds
]
every_case = pytest.mark.parametrize(("name", "kind"), CASES)


# What leaves batches as they come: nothing at all, and what chooses their samples beforehand.
IDENTITIES = {n for n in NAMES if n == "none" or batch_method(n).choose is not None}


def samples(kind: str, k: int = len(SEEDS)) -> Batch:
    """The same samples for each member: x [k, b, ...], classes or next tokens y."""
    generator = torch.Generator().manual_seed(5)
    if kind == "tokens":
        x = torch.randint(9, (1, B, *FEATURES[kind]), generator=generator)
        return Batch(x.repeat(k, 1, 1), x.roll(-1, 2).repeat(k, 1, 1))
    x = torch.randn(1, B, *FEATURES[kind], generator=generator)
    y = torch.randint(4, (1, B), generator=generator)
    return Batch(x.repeat(k, *[1] * (x.ndim - 1)), y.repeat(k, 1))


def hyper(name: str, k: int = len(SEEDS), **given: float) -> dict[str, Tensor]:
    default = {n: r.default for n, r in batch_method(name).ranges.items()}
    return hyper_tensors([{**default, **given}] * k)


def applied(name: str, kind: str, seeds: tuple[int, ...] = SEEDS, **given: float) -> Batch:
    batch, k = samples(kind, len(seeds)), len(seeds)
    return batch_method(name).apply(batch, KeyedDraws(seeds).at(7), hyper(name, k, **given))


def parts(batch: Batch) -> list[Tensor]:
    return [t for t in (batch.x, batch.y, batch.y2, batch.weight) if t is not None]


def end_of(range_: Range, end: str) -> Value:
    assert not isinstance(range_, Choice)
    return range_.low if end == "low" else range_.high


@every_case
@pytest.mark.parametrize("end", ["low", "high"])
def test_shapes_and_types_stay_at_both_ends_of_the_ranges(name: str, kind: str, end: str) -> None:
    before = samples(kind)
    given = {n: float(end_of(r, end)) for n, r in batch_method(name).ranges.items()}  # type: ignore[arg-type]
    after = applied(name, kind, SEEDS, **given)
    assert after.x.shape == before.x.shape
    assert after.x.dtype == before.x.dtype
    assert torch.isfinite(after.x).all()
    assert torch.equal(after.y, before.y)
    assert (after.y2 is None) == (after.weight is None)
    if after.y2 is not None and after.weight is not None:
        assert after.y2.shape == before.y.shape
        assert after.y2.dtype == before.y.dtype
        assert after.weight.shape == (len(SEEDS), B)
        assert ((after.weight >= 0) & (after.weight <= 1)).all()


@every_case
def test_weights_of_double_precision_keep_it(name: str, kind: str) -> None:
    if kind == "tokens":
        return
    before = samples(kind)
    double = Batch(before.x.double(), before.y)
    values = {n: t.double() for n, t in hyper(name).items()}
    after = batch_method(name).apply(double, KeyedDraws(SEEDS).at(7), values)
    assert after.x.dtype == torch.float64


@every_case
def test_equal_draws_give_equal_batches(name: str, kind: str) -> None:
    for one, two in zip(parts(applied(name, kind)), parts(applied(name, kind)), strict=True):
        assert torch.equal(one, two)


@every_case
def test_other_steps_give_other_batches(name: str, kind: str) -> None:
    if name in IDENTITIES:
        return
    method, batch = batch_method(name), samples(kind)
    draws = KeyedDraws(SEEDS)
    seen = [method.apply(batch, draws.at(step), hyper(name)).x for step in range(6)]
    assert not all(torch.equal(seen[0], x) for x in seen[1:])


@every_case
def test_a_member_is_the_same_alone_and_in_a_pack(name: str, kind: str) -> None:
    packed = applied(name, kind)
    for member, seed in enumerate(SEEDS):
        alone = applied(name, kind, (seed,))
        for a, b in zip(parts(alone), parts(packed), strict=True):
            assert torch.equal(a[0], b[member])


@every_case
def test_members_have_their_own_draws(name: str, kind: str) -> None:
    if name in IDENTITIES:
        return
    assert not torch.equal(*applied(name, kind, (11, 12)).x)


@every_case
def test_the_samples_themselves_are_left_as_they_were(name: str, kind: str) -> None:
    before, kept = samples(kind), samples(kind)
    batch_method(name).apply(before, KeyedDraws(SEEDS).at(7), hyper(name))
    assert torch.equal(before.x, kept.x)
    assert torch.equal(before.y, kept.y)


def mixing(name: str) -> bool:
    kind = batch_method(name).kinds[0]
    return applied(name, kind).y2 is not None


@every_case
def test_chains_keep_the_labels_that_an_earlier_method_mixed(name: str, kind: str) -> None:
    # Chains such as flip_crop+mixup run left to right; what does not mix must hand on y2.
    if mixing(name):
        return
    batch = samples(kind)
    weight = torch.full((len(SEEDS), B), 0.3)
    mixed = Batch(batch.x, batch.y, batch.y.flip(1), weight)
    after = batch_method(name).apply(mixed, KeyedDraws(SEEDS).at(7), hyper(name))
    assert after.y2 is not None and torch.equal(after.y2, batch.y.flip(1))
    assert after.weight is not None and torch.equal(after.weight, weight)


# Each method's own arithmetic ----------------------------------------------------------------


def test_mixup_is_the_weighted_mean_of_the_two_samples_it_names() -> None:
    before, after = samples("vector"), applied("mixup", "vector", alpha=1.0)
    assert after.weight is not None
    lam = after.weight[0, 0]
    # x = lam*a + (1 - lam)*b, so (x - lam*a) / (1 - lam) is a row of the batch.
    other = (after.x[0] - lam * before.x[0]) / (1 - lam)
    distance = (other[:, None] - before.x[0]).abs().amax(-1)
    assert distance.min(1).values.max() < 1e-4
    assert torch.equal(before.y[0][distance.argmin(1)], after.y2[0])  # type: ignore[index]


def test_cutmix_weighs_labels_by_the_pixels_that_are_left() -> None:
    k = 8
    x = torch.arange(B, dtype=torch.float32).view(1, B, 1, 1, 1).expand(k, B, 3, 8, 10).clone()
    y = torch.arange(B).expand(k, B)
    values = hyper("cutmix", k, alpha=1.0)
    after = batch_method("cutmix").apply(Batch(x, y), KeyedDraws(range(k)).at(0), values)
    assert after.y2 is not None and after.weight is not None
    own = (after.x == x).float().mean((2, 3, 4))
    other = (after.x == after.y2.view(k, B, 1, 1, 1)).float().mean((2, 3, 4))
    distinct = after.y2 != y
    torch.testing.assert_close(own[distinct], after.weight[distinct])
    torch.testing.assert_close(other[distinct], 1 - after.weight[distinct])


def test_flip_alone_mirrors_about_half_of_the_images() -> None:
    before, after = samples("image").x, applied("flip_crop", "image", flip=0.5, share=0.0).x
    same = (after == before).flatten(2).all(2)
    mirrored = (after == before.flip(-1)).flatten(2).all(2)
    assert (same ^ mirrored).all()
    assert 0.3 < mirrored.float().mean() < 0.7


def test_crop_moves_images_by_whole_pixels_and_brings_zeros_in() -> None:
    x = torch.zeros(1, 400, 1, 9, 9)
    x[..., 4, 4] = 1
    values = hyper("flip_crop", 1, flip=0.0, share=0.25)
    moved = batch_method("flip_crop").apply(
        Batch(x, torch.zeros(1, 400).long()), KeyedDraws([0]).at(0), values
    )
    places = moved.x[0, :, 0].flatten(1).argmax(1)
    assert torch.equal(moved.x.flatten(2).sum(2), torch.ones(1, 400))
    rows, columns = places // 9, places % 9
    for place in (rows, columns):
        assert sorted(place.unique().tolist()) == [2, 3, 4, 5, 6]  # .25 of 9 pixels, each way
        assert abs(place.float().mean() - 4) < 0.2


def test_cutout_hides_a_square_of_the_stated_share() -> None:
    x = torch.ones(1, 200, 1, 20, 20)
    after = batch_method("cutout").apply(
        Batch(x, torch.zeros(1, 200).long()), KeyedDraws([0]).at(0), hyper("cutout", 1, share=0.5)
    )
    hidden = (after.x[0, :, 0] == 0).float()
    rows, columns = hidden.amax(2).sum(1), hidden.amax(1).sum(1)
    assert torch.equal(hidden.sum((1, 2)), rows * columns)  # a rectangle
    assert rows.max() == 10 and columns.max() == 10  # half of 20; less where cut at the border
    assert rows.min() >= 5 and columns.min() >= 5


def test_feature_noise_has_the_stated_deviation() -> None:
    before, after = samples("vector").x, applied("feature_noise", "vector", sigma=0.2).x
    assert math.isclose(float((after - before).std()), 0.2, rel_tol=0.1)


def test_token_drop_replaces_about_p_by_tokens_of_other_samples() -> None:
    x = torch.arange(B).view(1, B, 1).expand(1, B, 500).clone()  # each sample has its own token
    after = batch_method("token_drop").apply(
        Batch(x, x), KeyedDraws([0]).at(0), hyper("token_drop", 1, p=0.3)
    )
    changed = (after.x != x).float().mean()
    assert 0.25 < changed < 0.31  # a sample may be its own replacement
    assert torch.equal(after.y, x)


def test_flip_and_crop_at_zero_leave_images_as_they_are() -> None:
    after = applied("flip_crop", "image", flip=0.0, share=0.0)
    assert torch.equal(after.x, samples("image").x)


def test_swap_replaces_about_p_by_cells_of_the_same_column() -> None:
    x = torch.arange(B * 500.0).view(1, B, 500)  # column j holds j, 500 + j, ...
    after = batch_method("swap").apply(Batch(x, x), KeyedDraws([0]).at(0), hyper("swap", 1, p=0.3))
    assert torch.equal(after.x % 500, x % 500)
    assert 0.25 < (after.x != x).float().mean() < 0.31  # a row may be its own replacement
    assert torch.equal(after.y, x)


def test_color_jitter_by_its_three_parts() -> None:
    x = samples("image").x
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}
    torch.testing.assert_close(applied("color_jitter", "image", SEEDS, **off).x, x)

    shift = applied("color_jitter", "image", SEEDS, **{**off, "brightness": 0.5}).x - x
    assert shift.flatten(2).std(2).max() < 1e-6  # one shift an image
    assert 0.3 < shift.abs().max() <= 0.5

    mean = x.mean((2, 3, 4), keepdim=True)
    factor = (applied("color_jitter", "image", SEEDS, **{**off, "contrast": 0.5}).x - mean) / (
        x - mean
    )
    assert factor.flatten(2).median(2).values.sub(1).abs().max() <= 0.5
    torch.testing.assert_close(
        factor,
        factor.flatten(2).median(2).values[..., None, None, None].expand_as(x),
        atol=1e-2,
        rtol=1e-2,
    )

    after = applied("color_jitter", "image", SEEDS, **{**off, "saturation": 0.5}).x
    torch.testing.assert_close(after.mean(2), x.mean(2))
    assert not torch.equal(after, x)


# Operations on images ------------------------------------------------------------------------


def operated(number: int, s: float, x: Tensor) -> Tensor:
    """One image [c, h, w] after an operation at strength s."""
    return augmented(x[None], torch.tensor([number]), torch.tensor([s]))[0]


def test_operations_that_move_do_so_about_the_centre() -> None:
    x = torch.zeros(1, 11, 11)
    x[0, 2, 5] = 1.0  # three pixels above the centre
    quarter = [operated(1, s, x)[0].flatten().argmax().item() for s in (-1.0, 1.0)]
    # 30 degrees of a radius of 3: 2.6 up, 1.5 to the side, each way.
    assert {divmod(int(q), 11) for q in quarter} <= {(2, 3), (2, 4), (2, 6), (2, 7), (3, 3), (3, 7)}
    assert len(set(quarter)) == 2
    assert operated(5, 1 / 1.1 / 3, x)[0, 1, 5] == pytest.approx(1.0, abs=1e-4)  # a pixel up
    assert operated(4, 1 / 1.1 / 3, x)[0, 2, 4] == pytest.approx(1.0, abs=1e-4)  # and to the left
    sheared = operated(2, 1.0, x)[0]
    assert sheared[2].sum() == pytest.approx(1.0, abs=1e-4)  # rows stay rows
    assert sheared[2, 5] < 0.5


def test_operations_on_light_and_color_by_hand() -> None:
    x = torch.tensor([[[0.0, 1.0], [2.0, 5.0]], [[0.0, 1.0], [2.0, 5.0]]])
    for number in range(10):
        torch.testing.assert_close(operated(number, 0.0, x), x)
    torch.testing.assert_close(operated(6, 1.0, x), 1.9 * x)
    torch.testing.assert_close(operated(7, -0.5, x), 2 + 0.55 * (x - 2))
    torch.testing.assert_close(operated(8, 1.0, x), x)  # its channels agree: it is grey
    assert operated(9, -1.0, x).std() < 0.5 * x.std()
    solarized = operated(10, 0.5, x)
    assert solarized[0].flatten().tolist() == [0.0, 1.0, 2.0, 0.0]  # 5 lies above 5 - .5*5
    assert operated(11, 1.0, x).unique().numel() == 4  # 8 levels 5/7 apart
    assert (operated(11, 1.0, x) * 7 / 5).frac().abs().max() < 1e-5


def test_rand_augment_of_more_rounds_changes_more_and_the_identity_is_among_them() -> None:
    x = samples("image").x
    share = [
        (applied("rand_augment", "image", n=n, m=0.5).x != x).flatten(2).any(2).float().mean()
        for n in (1, 2, 3)
    ]
    assert 0.8 < share[0] < share[1] <= share[2] <= 1


def chosen(name: str, progress: float, n: int = 100, **given: float) -> Tensor:
    """What a method takes for the places 0 .. n - 1."""
    choose = batch_method(name).choose
    assert choose is not None
    return choose(torch.arange(n)[None], n, hyper(name, 1, progress=progress, **given))[0]


def test_batch_warmup_repeats_the_first_samples_and_ends() -> None:
    for progress, size in [(0.0, 8), (0.125, 20), (0.25, 32), (0.9, 32)]:
        found = chosen("batch_warmup", progress, 32, start=0.25, full=0.25)
        assert found.tolist() == [i % size for i in range(32)]


@pytest.mark.parametrize("name", ["scored", "anti"])
def test_a_curriculum_draws_evenly_from_a_growing_share(name: str) -> None:
    start, full = 0.2, 0.5
    for progress, share in [(0.0, 20), (0.25, 60), (0.5, 100), (0.9, 100)]:
        found = chosen(name, progress, start=start, full=full, power=1.0)
        ranks = found if name == "scored" else 99 - found
        assert ranks.min() == 0 and ranks.max() == share - 1
        count = ranks.bincount()
        assert count.min() >= 100 // share and count.max() <= -(-100 // share)


def test_samples_are_hard_where_another_class_is_nearer() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0], [9.0], [0.5]])
    y = torch.tensor([0, 0, 1, 1, 0, 0])  # the fifth lies among the others
    score = difficulty(x, y)
    assert score.argmax() == 4
    assert score[4] > 0 > score[[0, 1, 2, 3, 5]].max()
    # Of tokens: the rarer, the harder. Of values: the farther from the median.
    tokens = torch.tensor([[0, 0, 0], [0, 0, 1], [2, 1, 0]])
    assert difficulty(tokens, tokens).argsort().tolist() == [0, 1, 2]
    values = torch.tensor([[0.0], [1.0], [5.0]])
    assert difficulty(values, values).tolist() == [1.0, 0.0, 4.0]
