"""Every operation against torchvision's functional one, image by image, with the same parameters."""

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from dinodiet.data.views import augment

ADJUST = [tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue]


def random_images(count: int, size: int = 12) -> Tensor:
    """Noise that also has gray, black, white and pure pixels."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    images[:, :, 0] = images[:, :1, 0]
    images[:, :, 1] = images[:, :, 1].round()
    return images


def uniform(low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def assert_near(got: Tensor, expected: list[Tensor]) -> None:
    torch.testing.assert_close(got, torch.stack(expected), atol=3e-6, rtol=0)


def jittered(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Jitter in the order of rows that the operation wants."""
    rows = augment.jitter_order(torch.ones(len(order), dtype=torch.bool), order)
    changed = augment.color_jitter(images[rows], factors[rows], order[rows])
    return changed[rows.argsort()]


def test_color_jitter_in_every_order() -> None:
    order = torch.tensor(list(permutations(range(4))) * 2)
    images = random_images(len(order))
    factors = uniform(0.4, 1.6, len(order), 4)
    factors[:, augment.HUE] = uniform(-0.5, 0.5, len(order))
    expected = []
    for image, factor, operations in zip(images, factors.tolist(), order.tolist(), strict=True):
        adjusted = image
        for operation in operations:
            adjusted = ADJUST[operation](adjusted, factor[operation])
        expected.append(adjusted)
    # A hue is ill-conditioned where contrast or saturation left a pixel nearly gray, hence not 3e-6.
    torch.testing.assert_close(jittered(images, factors, order), torch.stack(expected), atol=2e-5, rtol=0)


@pytest.mark.parametrize("operation", range(4))
def test_each_jitter_alone(operation: int) -> None:
    images = random_images(8)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(8, 1)
    factors[:, operation] = uniform(-0.5, 0.5, 8) if operation == augment.HUE else uniform(0.0, 2.0, 8)
    order = torch.arange(4).repeat(8, 1)
    expected = [ADJUST[operation](image, f) for image, f in zip(images, factors[:, operation].tolist(), strict=True)]
    assert_near(jittered(images, factors, order), expected)


def test_rows_in_another_order_are_noticed() -> None:
    order = torch.tensor([[augment.HUE, 0, 1, 2], [0, 1, 2, augment.HUE]])
    with pytest.raises(AssertionError, match="the later the hue"):
        augment.color_jitter(random_images(2), uniform(0.5, 1.5, 2, 4) * 0.3, order)
    assert augment.jitter_order(torch.tensor([False, True]), order).tolist() == [1, 0]


def test_grayscale() -> None:
    images = random_images(2)
    assert_near(augment.grayscale(images), [tvf.rgb_to_grayscale(image, 3) for image in images])


def test_flip() -> None:
    images = random_images(2)
    assert_near(augment.flip(images), [tvf.horizontal_flip(image) for image in images])


def test_solarize() -> None:
    images = (random_images(4) * 255).round() / 255
    assert (images == 128 / 255).any()
    assert_near(augment.solarize(images), [tvf.solarize(image, 128 / 255) for image in images])


@pytest.mark.parametrize("size", [6, 40, 70])
def test_gaussian_blur(size: int) -> None:
    images, sigmas = random_images(8, size), uniform(0.1, 2.0, 8)
    kernel_size = augment.blur_kernel_size(2.0, size)
    expected = [
        tvf.gaussian_blur(image, [kernel_size] * 2, [sigma] * 2)
        for image, sigma in zip(images, sigmas.tolist(), strict=True)
    ]
    chosen = torch.tensor([False, True] * 4)
    expected[::2] = images[::2].clone()
    assert_near(augment.gaussian_blur(images, chosen, sigmas, kernel_size), expected)


def test_blur_kernel_reaches_four_sigma_or_the_mirrored_image() -> None:
    assert augment.blur_kernel_size(2.0, 224) == 17
    assert augment.blur_kernel_size(2.0, 6) == 11
    assert augment.blur_kernel_size(0.1, 6) == 3


def test_affine() -> None:
    size = 17
    images = random_images(6, size)
    angle, translate, scale = uniform(-180, 180, 6), uniform(-0.3, 0.3, 6, 2), uniform(0.6, 1.5, 6)
    expected = [
        tvf.affine(image, a, [size * t for t in ts], s, [0.0, 0.0], InterpolationMode.BILINEAR)
        for image, a, ts, s in zip(images, angle.tolist(), translate.tolist(), scale.tolist(), strict=True)
    ]
    # Positions are computed in another order: a rounding error of 1e-6 of the side moves a noise pixel by 2e-5.
    torch.testing.assert_close(
        augment.affine(images, angle, translate, scale), torch.stack(expected), atol=3e-5, rtol=0
    )


@pytest.mark.parametrize("size", [12, 70])
@pytest.mark.parametrize("chosen", [[], [1], [0, 2], [0, 1, 2]])
def test_where_touches_only_the_chosen(chosen: list[int], size: int) -> None:
    images, amount = random_images(3, size), torch.tensor([10.0, 20.0, 30.0])
    mask = torch.zeros(3, dtype=torch.bool)
    mask[chosen] = True
    expected = images + (amount * mask)[:, None, None, None]
    for layout in (images.clone(), images.transpose(0, 1).contiguous().transpose(0, 1)):
        got = augment.where(layout, mask, lambda images, amount: images + amount[:, None, None, None], amount)
        assert got.equal(expected)
        assert got is layout
