import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dinodiet.methods.parts.mix import Mix


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_off_leaves_the_batch_alone() -> None:
    images = torch.rand(4, 3, 8, 8)
    mixed = Mix(mixup_alpha=0.0, cutmix_alpha=0.0)(images, generator())
    assert mixed.images is images
    assert mixed.kept == 1.0


def test_mixup_is_the_convex_combination() -> None:
    images = torch.rand(6, 3, 8, 8)
    mixed = Mix(mixup_alpha=0.8, cutmix_alpha=0.0)(images, generator(3))
    assert 0 < mixed.kept < 1
    assert torch.equal(mixed.images, mixed.kept * images + (1 - mixed.kept) * images[mixed.partner])


def test_cutmix_keeps_as_many_pixels_as_it_says() -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 16, 16)
    for seed in range(20):
        mixed = Mix(mixup_alpha=0.0, cutmix_alpha=1.0)(images, generator(seed))
        for row, partner in enumerate(mixed.partner.tolist()):
            if partner != row:
                own = (mixed.images[row] == row).float().mean().item()
                assert own == pytest.approx(mixed.kept)


def test_both_are_drawn() -> None:
    images = torch.rand(4, 3, 16, 16)
    known = 0
    for seed in range(30):
        mixed = Mix(mixup_alpha=1.0, cutmix_alpha=1.0)(images, generator(seed))
        pixels = torch.cat([images.flatten(), mixed.images.flatten()])
        known += len(pixels.unique()) == len(images.flatten().unique())  # CutMix invents no pixel
    assert 5 < known < 25


def test_the_mixed_loss_is_the_loss_of_the_mixed_smoothed_target() -> None:
    logits, target = torch.randn(6, 10), torch.randint(10, (6,))
    mixed = Mix(mixup_alpha=0.8, cutmix_alpha=0.0)(torch.rand(6, 3, 4, 4), generator(1))
    smoothed = F.one_hot(target, 10) * (1 - 0.3) + 0.3 / 10
    soft = mixed.kept * smoothed + (1 - mixed.kept) * smoothed[mixed.partner]
    ours = mixed.loss(lambda t: F.cross_entropy(logits, t, label_smoothing=0.3), target)
    assert ours.item() == pytest.approx(F.cross_entropy(logits, soft).item(), rel=1e-5)


def test_a_probability_leaves_the_other_batches_alone() -> None:
    """DIET_Tuning: the probability of acting on a batch."""
    images, mix = torch.rand(4, 3, 8, 8), Mix(mixup_alpha=1.0, cutmix_alpha=1.0, probability=0.3)
    untouched = [mix(images, generator(seed)).images is images for seed in range(400)]
    assert 0.64 < sum(untouched) / 400 < 0.76
    assert all(Mix(mixup_alpha=1.0, probability=0.0)(images, generator(seed)).kept == 1 for seed in range(20))


@pytest.mark.parametrize(("switch", "share"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_the_switch_is_the_share_of_cutmix(switch: float, share: float) -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16)
    mix = Mix(mixup_alpha=1.0, cutmix_alpha=1.0, switch=switch)
    pasted = [set(mix(images, generator(seed)).images.unique().tolist()) <= {0, 1, 2, 3} for seed in range(400)]
    assert sum(pasted) / 400 == pytest.approx(share, abs=0.07)


def test_what_is_not_set_draws_as_before() -> None:
    images = torch.rand(4, 3, 8, 8)
    one, other = (Mix(mixup_alpha=1.0, **more)(images, generator(5)) for more in ({}, {"switch": 0.9}))
    assert torch.equal(one.images, other.images)
    draw = np.random.default_rng(5)  # which of the kinds that are on, then the weight
    draw.integers(1)
    assert one.kept == draw.beta(1.0, 1.0)
