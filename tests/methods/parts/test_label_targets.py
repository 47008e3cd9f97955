import math

import pytest
import torch

from dinodiet.data.images import TensorImages
from dinodiet.errors import UserError
from dinodiet.methods.parts.label_targets import Labels, RandomTargets
from dinodiet.types import Batch, Clock, DataSpec

MANY = DataSpec("many", num_images=10_000, num_labels=10)
CLOCK = Clock(3, 10, 5)


def batch(number: int, labels: int = 10) -> Batch:
    index = torch.arange(number)
    return Batch(torch.zeros(number, 3, 1, 1, dtype=torch.uint8), index % labels, index)


IMAGES = TensorImages(torch.zeros(10_000, 1, 1, 1, dtype=torch.uint8))


def changed(targets: Labels, clock: Clock = CLOCK) -> torch.Tensor:
    whole = batch(10_000)
    assert whole.label is not None
    found = targets(whole, clock).probabilities[0]
    assert torch.equal(found.sum(1), torch.ones(10_000))
    return found.argmax(1) != whole.label


def test_labels_are_one_hot_and_without_noise_the_true_ones() -> None:
    targets = Labels(10, MANY)
    targets.prepare(IMAGES)
    assert not changed(targets).any()


def test_noise_draws_exactly_its_part_from_all_labels_and_always_the_same() -> None:
    targets = Labels(10, MANY, noise=0.3)
    targets.prepare(IMAGES)
    assert targets._drawn is not None
    assert (targets._drawn >= 0).sum() == 3_000
    first = changed(targets)
    assert first.float().mean().item() == pytest.approx(0.3 * 0.9, abs=0.01)
    assert torch.equal(changed(targets, Clock(8, 10, 5)), first)  # the same in every epoch
    again = Labels(10, MANY, noise=0.3)
    again.prepare(IMAGES)
    assert torch.equal(changed(again), first)
    other = Labels(10, MANY, noise=0.3, seed=1)
    other.prepare(IMAGES)
    assert not torch.equal(changed(other), first)


def test_of_labels_that_are_all_drawn_a_tenth_stays() -> None:
    targets = Labels(10, MANY, noise=1.0)
    targets.prepare(IMAGES)
    assert changed(targets).float().mean().item() == pytest.approx(0.9, abs=0.01)


def test_resampled_noise_is_another_at_every_step_and_the_same_at_the_same() -> None:
    targets = Labels(10, MANY, noise=0.3, resample=True)
    first, second = changed(targets), changed(targets, Clock(4, 10, 5))
    assert first.float().mean().item() == pytest.approx(0.27, abs=0.015)
    assert not torch.equal(first, second)
    assert torch.equal(changed(targets), first)


def test_random_targets_depend_on_the_image_alone_and_have_the_published_size() -> None:
    targets = RandomTargets(400, MANY)
    whole = targets(batch(500), CLOCK)
    assert whole.logits.square().sum(-1).mean().item() == pytest.approx(1.0, abs=0.02)
    torch.testing.assert_close(whole.probabilities.sum(-1), torch.ones(1, 500))
    some = Batch(torch.zeros(2, 3, 1, 1, dtype=torch.uint8), None, torch.tensor([7, 3]))
    assert torch.equal(targets(some, Clock(9, 10, 5)).logits[0], whole.logits[0, [7, 3]])
    anew = RandomTargets(400, MANY, resample=True)
    assert not torch.equal(anew(some, CLOCK).logits, anew(some, Clock(9, 10, 5)).logits)
    assert anew(batch(500), CLOCK).logits.square().sum(-1).mean().item() == pytest.approx(1.0, abs=0.02)


def test_a_low_temperature_makes_random_targets_one_hot() -> None:
    sharp = RandomTargets(10, MANY, temperature=1e-3)(batch(50), CLOCK).probabilities
    assert sharp.amax(-1).mean() > 0.98
    warm = RandomTargets(10, MANY, temperature=100.0)(batch(50), CLOCK).probabilities
    torch.testing.assert_close(warm, torch.full_like(warm, 0.1), atol=5e-3, rtol=0)
    assert math.isclose(RandomTargets(16, MANY, temperature=2.0).scale, 1 / 8)


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(UserError, match=r"head.out_dim: 5, but the targets are the 10 labels; set it to 10"):
        Labels(5, MANY)
    with pytest.raises(UserError, match="targets: they are the labels, and bare has none"):
        Labels(5, DataSpec("bare", 10, 0))
    with pytest.raises(UserError, match="images of several have several"):
        Labels(5, DataSpec("several", 10, 5, multilabel=True))
    with pytest.raises(UserError, match="resample: true draws labels anew, and noise is 0"):
        Labels(10, MANY, resample=True)
