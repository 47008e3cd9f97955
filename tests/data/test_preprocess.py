import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from dinodiet.data.preprocess import preprocess
from dinodiet.types import InputSpec, Interpolation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def random_images(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


def by_torchvision(image: Tensor, shorter: int, spec: InputSpec) -> Tensor:
    mode = InterpolationMode(spec.interpolation)
    pixels = tvf.resize(image.float() / 255, [shorter], mode, antialias=True)
    cropped: Tensor = tvf.center_crop(pixels, [spec.size]).clamp(0, 1)
    return cropped


@pytest.mark.parametrize(
    ("height", "width", "shorter"),
    [
        (28, 28, 32),  # smaller: resized whole
        (20, 50, 32),
        (32, 32, 32),  # as large: untouched
        (32, 60, 32),
        (33, 33, 37),  # larger: what a crop of 0.875 keeps
        (100, 70, 37),
    ],
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_torchvision(height: int, width: int, shorter: int, interpolation: Interpolation) -> None:
    spec = InputSpec(32, MEAN, STD, interpolation, crop_fraction=0.875)
    images = random_images(3, height, width)
    expected = torch.stack([by_torchvision(image, shorter, spec) for image in images])
    torch.testing.assert_close(preprocess(images, spec), expected, atol=2e-6, rtol=0)


def test_imagenet_sizes() -> None:
    spec = InputSpec(224, MEAN, STD, crop_fraction=0.875)
    image = random_images(1, 300, 280)
    assert preprocess(image, spec)[0].allclose(by_torchvision(image[0], 256, spec), atol=2e-6)


def test_list_of_different_sizes() -> None:
    spec = InputSpec(32, MEAN, STD, crop_fraction=0.875)
    images = [random_images(1, height, width)[0] for height, width in [(10, 20), (32, 32), (90, 40)]]
    expected = torch.stack(
        [by_torchvision(image, shorter, spec) for image, shorter in zip(images, [32, 32, 37], strict=True)]
    )
    got = preprocess(images, spec)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)


def test_an_image_of_the_right_size_is_only_scaled_to_0_1() -> None:
    images = random_images(2, 32, 32)
    assert preprocess(images, InputSpec(32, MEAN, STD)).equal(images / 255)
