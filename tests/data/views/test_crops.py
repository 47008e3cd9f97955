import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as tvf

from dinodiet.data.views.crops import _padded, crop, draw_boxes, short_side
from dinodiet.types import Interpolation

INTERPOLATIONS: list[Interpolation] = ["bilinear", "bicubic"]


def random_images(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


def boxes_of(count: int, height: int, width: int, low: float = 0.05, high: float = 1.0) -> Tensor:
    scale = torch.tensor([[low, high]]).expand(count, 2)
    sides = torch.tensor([height, width])[:, None].expand(2, count)
    return draw_boxes(sides[0], sides[1], scale, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(
    ("height", "width", "size"), [(32, 32, 32), (28, 40, 64), (90, 61, 16), (5, 7, 12), (130, 110, 50), (120, 200, 97)]
)
@pytest.mark.parametrize("resize_first", [False, True])
def test_crop_is_torchvisions(
    height: int, width: int, size: int, interpolation: Interpolation, resize_first: bool
) -> None:
    images = random_images(12, height, width)
    mode = InterpolationMode(interpolation)
    grid_size = size if resize_first else None
    pixels = images.float() / 255
    if resize_first:
        pixels = tvf.resize(pixels, [size], mode, antialias=True)
    boxes = boxes_of(12, *pixels.shape[-2:])
    expected = torch.stack(
        [
            tvf.resized_crop(image, *box, [size, size], mode, antialias=True).clamp(0, 1)
            for image, box in zip(pixels, boxes.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(crop(images, boxes, size, interpolation, grid_size), expected, atol=2e-5, rtol=0)
    of_list = crop(list(images), boxes, size, interpolation, grid_size)
    torch.testing.assert_close(of_list, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 40), (120, 140)])
@pytest.mark.parametrize("as_list", [False, True])
def test_mirrored_crops(height: int, width: int, as_list: bool) -> None:
    images = random_images(6, height, width)
    boxes, mirrored = boxes_of(6, height, width), torch.tensor([True, False, True, True, False, False])
    given = list(images) if as_list else images
    expected = crop(images, boxes, 24, "bicubic")
    expected = torch.where(mirrored[:, None, None, None], expected.flip(3), expected)
    got = crop(given, boxes, 24, "bicubic", mirrored=mirrored)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_a_batch_of_padded_images_is_what_each_gives() -> None:
    images = [random_images(1, 20, 30)[0], random_images(1, 50, 11)[0]]
    boxes = torch.tensor([[2, 3, 10, 12], [30, 0, 20, 11]])
    expected = crop(images, boxes, 16, "bicubic")
    torch.testing.assert_close(crop(_padded(images), boxes, 16, "bicubic"), expected, atol=1e-5, rtol=0)


def test_images_of_different_sizes() -> None:
    images = [random_images(1, 20, 30)[0], random_images(1, 50, 11)[0]]
    boxes = torch.tensor([[2, 3, 10, 12], [30, 0, 20, 11]])
    together = crop(images, boxes, 16, "bicubic")
    for image, box, got in zip(images, boxes, together, strict=True):
        alone = crop(image[None], box[None], 16, "bicubic")[0]
        torch.testing.assert_close(got, alone, atol=2e-5, rtol=0)


def test_short_side_is_torchvisions() -> None:
    for height, width in [(10, 10), (7, 19), (33, 20), (375, 500)]:
        image = torch.zeros(3, height, width)
        assert short_side(height, width, 24) == tuple(tvf.resize(image, [24], antialias=True).shape[-2:])


@pytest.mark.parametrize(
    ("height", "width", "low", "high"),
    [(100, 100, 0.08, 1.0), (40, 120, 0.4, 1.0), (150, 60, 0.05, 0.4), (96, 100, 0.95, 1.0)],
)
def test_boxes_are_distributed_as_torchvisions(height: int, width: int, low: float, high: float) -> None:
    count = 1500
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [low, high], [3 / 4, 4 / 3]) for _ in range(count)])
    ours = boxes_of(count, height, width, low, high)
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column], method="asymp").pvalue > 1e-3
    ratio = [boxes[:, 3] / boxes[:, 2] for boxes in (ours, theirs)]
    area = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
    assert ks_2samp(*ratio, method="asymp").pvalue > 1e-3
    assert ks_2samp(*area, method="asymp").pvalue > 1e-3
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()


@pytest.mark.parametrize(("height", "width"), [(10, 101), (97, 12), (64, 64), (30, 36)])
def test_where_nothing_fits_the_box_is_central(height: int, width: int) -> None:
    image = torch.zeros(3, height, width)
    expected = RandomResizedCrop.get_params(image, [1.0, 1.0], [3 / 4, 4 / 3])
    assert boxes_of(3, height, width, 1.0, 1.0).tolist() == [list(expected)] * 3


def test_each_image_has_its_own_size_and_scale() -> None:
    heights, widths = torch.tensor([50, 500]), torch.tensor([60, 300])
    scale = torch.tensor([[0.9, 1.0], [0.05, 0.1]])
    draws = [draw_boxes(heights, widths, scale, torch.Generator().manual_seed(seed)) for seed in range(50)]
    area = torch.stack([boxes[:, 2] * boxes[:, 3] / (heights * widths) for boxes in draws])
    assert area[:, 0].min() > 0.85
    assert area[:, 1].max() < 0.11
