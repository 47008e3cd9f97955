from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from dinodiet.data.views import augment, recipes
from dinodiet.data.views.crops import crop
from dinodiet.data.views.recipes import Draw, Recipe, draw, make_views
from dinodiet.types import InputSpec

SPEC = InputSpec(24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
EVERYTHING = Recipe(
    crop_scale=(0.2, 1.0),
    resize_first=True,
    flip=0.5,
    affine_degrees=15,
    affine_translate=0.1,
    affine_scale=0.1,
    jitter=(0.4, 0.3, 0.2, 0.1),
    jitter_probability=0.7,
    gray=0.3,
    blur=0.6,
    blur_sigma=(0.2, 1.5),
    solarize=0.4,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int, height: int = 20, width: int = 28) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator()).byte()


def draw_many(*recipe: Recipe, count: int = 4000) -> Draw:
    return draw(recipe, torch.full((count,), 50), torch.full((count,), 60), 24, generator())


def by_torchvision(image: Tensor, drawn: Draw, i: int, spec: InputSpec) -> Tensor:
    """Do to one image what was drawn for it, step by step in the published order."""
    mode, size = InterpolationMode.BICUBIC, spec.size
    x: Tensor = tvf.resize(image.float() / 255, [size], mode, antialias=True)
    assert drawn.boxes is not None
    x = tvf.resized_crop(x, *drawn.boxes[i].tolist(), [size, size], mode, antialias=True).clamp(0, 1)
    if drawn.flip[i]:
        x = tvf.horizontal_flip(x)
    shift = [size * part for part in drawn.translate[i].tolist()]
    x = tvf.affine(x, drawn.angle[i].item(), shift, drawn.scale[i].item(), [0.0, 0.0], InterpolationMode.BILINEAR)
    if drawn.jitter[i]:
        adjust = [tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue]
        for operation in drawn.order[i].tolist():
            x = adjust[operation](x, drawn.factors[i, operation].item())
    if drawn.gray[i]:
        x = tvf.rgb_to_grayscale(x, 3)
    if drawn.blur[i]:
        x = tvf.gaussian_blur(x, [13, 13], [drawn.sigma[i].item()])
    if drawn.solarize[i]:
        x = tvf.solarize(x, 128 / 255)
    return x


def test_views_are_what_torchvision_makes_of_the_same_draw() -> None:
    images = random_images(40)
    sizes = torch.tensor([20]).repeat(40), torch.tensor([28]).repeat(40)
    drawn = draw([EVERYTHING], *sizes, SPEC.size, generator())
    (views,) = make_views(images, [EVERYTHING], SPEC, generator())
    expected = torch.stack([by_torchvision(image, drawn, i, SPEC) for i, image in enumerate(images)])
    difference = (views - expected).abs().amax((1, 2, 3))
    jumps = drawn.solarize | drawn.jitter  # a rounding error at the threshold, or of a nearly gray pixel's hue
    assert difference[~jumps].max() < 5e-5
    assert (((views - expected).abs() > 2e-4).float().mean()) < 1e-4
    assert jumps.float().mean() > 0.5


def test_a_view_per_recipe_in_order() -> None:
    images = random_images(6)
    plain = Recipe(crop_scale=(0.2, 1.0))
    flipped = replace(plain, flip=1.0)
    views = make_views(images, [plain, flipped, plain], SPEC, generator())
    drawn = draw([plain, flipped, plain], torch.full((6,), 20), torch.full((6,), 28), SPEC.size, generator())
    assert drawn.flip.tolist() == [False] * 6 + [True] * 6 + [False] * 6
    assert drawn.boxes is not None
    for view, boxes, flip in zip(views, drawn.boxes.view(3, 6, 4), [False, True, False], strict=True):
        expected = crop(images, boxes, SPEC.size, "bicubic")
        expected = expected.flip(-1) if flip else expected
        torch.testing.assert_close(view, expected)


@pytest.mark.parametrize("budget", [1, 2000])
def test_parts_do_not_change_the_views(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(7)
    whole = make_views(images, [EVERYTHING] * 2, SPEC, generator())
    monkeypatch.setattr(recipes, "_CPU_PIXELS", budget)
    parts = make_views(images, [EVERYTHING] * 2, SPEC, generator())
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_half_precision_around_it_does_not_touch_the_pixels() -> None:
    images = random_images(4)
    expected = make_views(images, [EVERYTHING], SPEC, generator())
    with torch.autocast("cpu", torch.bfloat16):
        got = make_views(images, [EVERYTHING], SPEC, generator())
    assert got[0].equal(expected[0])


def test_frequencies_and_ranges() -> None:
    drawn = draw_many(EVERYTHING)
    for name, probability in [("flip", 0.5), ("jitter", 0.7), ("gray", 0.3), ("blur", 0.6), ("solarize", 0.4)]:
        assert getattr(drawn, name).float().mean() == pytest.approx(probability, abs=0.03), name
    low, high = drawn.factors.amin(0), drawn.factors.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.6, 0.7, 0.8, -0.1]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.4, 1.3, 1.2, 0.1]), atol=0.01, rtol=0)
    spans = {"angle": (-15, 15), "translate": (-0.1, 0.1), "scale": (0.9, 1.1), "sigma": (0.2, 1.5)}
    for name, (least, most) in spans.items():
        values = getattr(drawn, name)
        assert values.min() == pytest.approx(least, abs=0.01 * (most - least)), name
        assert values.max() == pytest.approx(most, abs=0.01 * (most - least)), name
        assert values.mean() == pytest.approx((least + most) / 2, abs=0.03 * (most - least)), name


def test_draws_are_independent() -> None:
    drawn = draw_many(EVERYTHING)
    names = ("flip", "angle", "translate", "scale", "jitter", "factors", "gray", "blur", "sigma", "solarize")
    columns = torch.cat([getattr(drawn, name).float().view(4000, -1) for name in names], 1)
    correlation = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
    assert correlation.abs().max() < 0.08  # standard deviation 0.016


def test_strong_brightness_is_cut_at_black() -> None:
    drawn = draw_many(Recipe(jitter=(3.0, 0.0, 0.0, 0.0), jitter_probability=1.0))
    assert drawn.factors[:, 0].min() == pytest.approx(0.0, abs=0.01)
    assert drawn.factors[:, 0].mean() == pytest.approx(2.0, abs=0.1)


def test_orders_are_uniform_permutations() -> None:
    order = draw_many(EVERYTHING, count=4800).order
    orders, counts = torch.unique(order, dim=0, return_counts=True)
    assert len(orders) == 24
    assert counts.min() > 140  # 200 expected, standard deviation 14
    assert orders.sort(1).values.equal(torch.arange(4).repeat(24, 1))
    assert augment.HUE == 3


def test_the_default_recipe_does_nothing() -> None:
    drawn = draw_many(Recipe())
    for name in ("flip", "jitter", "gray", "blur", "solarize", "angle", "translate"):
        assert not getattr(drawn, name).any(), name
    assert (drawn.scale == 1).all()
    assert drawn.boxes is None


def test_one_setting_does_not_change_the_draws_of_another() -> None:
    all_draws, few = (
        draw_many(EVERYTHING, count=50),
        draw_many(Recipe(crop_scale=(0.2, 1.0), resize_first=True, flip=0.5), count=50),
    )
    assert all_draws.flip.equal(few.flip)
    assert all_draws.boxes is not None and few.boxes is not None
    assert all_draws.boxes.equal(few.boxes)
