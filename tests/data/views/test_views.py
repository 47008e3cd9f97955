import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor

from dinodiet.config.signature import check_arguments
from dinodiet.data.preprocess import preprocess
from dinodiet.data.views import augment, crops
from dinodiet.data.views.settings import Affine, Blur, Colour
from dinodiet.data.views.views import MultiCrop, SingleView, parse_crops
from dinodiet.errors import UserError
from dinodiet.types import InputSpec, Views

PARTS: dict[str, Any] = {"affine": Affine, "colour": Colour, "blur": Blur}
SPEC = InputSpec(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), divisor=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int = 5, height: int = 36, width: int = 30) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator(7)).byte()


@pytest.mark.parametrize("views", [*(SingleView(SPEC, strength) for strength in (1, 2, 3)), MultiCrop(SPEC)])
def test_views_depend_on_the_generator_and_nothing_else(views: Views) -> None:
    images = random_images()
    torch.manual_seed(0)
    first = views(images, generator(0))
    torch.manual_seed(1)
    again, other = views(images, generator(0)), views(images, generator(1))
    assert images.equal(random_images())
    for a, b, c in zip(first, again, other, strict=True):
        assert a.equal(b)
        assert not a.allclose(c)


@pytest.mark.parametrize(
    "views",
    [SingleView(SPEC, strength=1), SingleView(SPEC, strength=0), MultiCrop(SPEC, colour=Colour(jitter=[0.0] * 4))],
)
def test_a_list_gives_what_a_tensor_gives(views: Views) -> None:
    images = random_images()
    for a, b in zip(views(images, generator()), views(list(images), generator()), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "views", [*(SingleView(SPEC, strength, affine=Affine(degrees=5)) for strength in (1, 3)), MultiCrop(SPEC)]
)
@pytest.mark.parametrize("as_list", [False, True])
def test_no_pixel_is_asked_for_its_value(views: Views, as_list: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # A device without values refuses what would make the host wait for a GPU. It knows no autocast, even to end it.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    images = random_images().to("meta")
    made = views(list(images) if as_list else images, generator())
    expected = views(random_images(), generator())
    assert [view.shape for view in made] == [view.shape for view in expected]
    assert all(view.is_meta for view in made)


@pytest.mark.parametrize("views", [SingleView(SPEC, strength=3), MultiCrop(SPEC)])
def test_what_a_gpu_gets_at_once_is_what_a_cpu_makes_in_parts(views: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(9, 100, 110)
    expected = views(images, generator())
    monkeypatch.setattr(crops, "_DENSE_PIXELS", 10**9)
    monkeypatch.setattr(augment, "_DENSE_SIZE", 10**9)
    for a, b in zip(views(images, generator()), expected, strict=True):
        assert (
            (a - b).abs() > 1e-3
        ).float().mean() < 1e-3  # rounding at the threshold, or of a nearly gray pixel's hue


def test_images_of_different_sizes() -> None:
    images = [random_images(1, height, width)[0] for height, width in [(20, 90), (64, 64), (33, 8)]]
    assert [view.shape for view in SingleView(SPEC)(images, generator())] == [(3, 3, 32, 32)]
    assert [view.shape[2] for view in MultiCrop(SPEC, "2x32+3x16")(images, generator())] == [32, 32, 16, 16, 16]


def test_count_order_and_shape() -> None:
    views = MultiCrop(SPEC, "3x32 + 4x16+1x8")
    made = views(random_images(2), generator())
    assert views.num_global == 3
    assert [tuple(view.shape) for view in made] == [(2, 3, s, s) for s in (32, 32, 32, 16, 16, 16, 16, 8)]
    assert all(view.dtype == torch.float32 for view in made)
    assert len({float(view.sum()) for view in made}) == 8
    assert SingleView(SPEC).num_global == 1


@pytest.mark.parametrize("size", [None, 16])
def test_strength_0_is_the_preprocessing_of_evaluation(size: int | None) -> None:
    (view,) = SingleView(SPEC, strength=0, size=size)(random_images(), generator())
    assert view.equal(preprocess(random_images(), replace(SPEC, size=size or 32)))


def test_strength_2_is_the_published_recipe() -> None:
    recipe = SingleView(SPEC).recipe
    assert (recipe.crop_scale, recipe.resize_first, recipe.flip) == ((0.08, 1.0), True, 0.5)
    assert (recipe.jitter, recipe.jitter_probability, recipe.gray) == ((0.4, 0.4, 0.4, 0.2), 0.3, 0.2)
    assert (recipe.blur, recipe.solarize, recipe.affine_degrees) == (0, 0, 0)


def test_multi_crop_is_the_published_recipe() -> None:
    groups = MultiCrop(replace(SPEC, size=224, divisor=16)).groups
    assert [(spec.size, len(recipes)) for spec, recipes in groups] == [(224, 2), (96, 8)]
    (first, second), local = groups[0][1], groups[1][1]
    assert [(r.crop_scale, r.blur, r.solarize) for r in (first, second)] == [
        ((0.4, 1.0), 1.0, 0.0),
        ((0.4, 1.0), 0.1, 0.2),
    ]
    assert {(r.crop_scale, r.blur, r.solarize) for r in local} == {((0.05, 0.4), 0.5, 0.0)}
    for recipe in (first, second, *local):
        assert (recipe.flip, recipe.gray, recipe.blur_sigma, recipe.resize_first) == (0.5, 0.2, (0.1, 2.0), False)
        assert (recipe.jitter, recipe.jitter_probability) == ((0.4, 0.4, 0.2, 0.1), 0.8)


def test_given_settings_replace_the_presets() -> None:
    parts: dict[str, Any] = {"affine": Affine(degrees=10.0), "colour": Colour(jitter=[0.1, 0.2, 0.3, 0.4])}
    parts["blur"] = Blur(sigma=[0.5, 3.0])
    recipe = SingleView(SPEC, 3, resize_first=False, crop_scale=[1, 1], flip=0, **parts).recipe
    expected = replace(SingleView(SPEC, 3).recipe, resize_first=False, blur_sigma=(0.5, 3.0))
    assert recipe == replace(expected, crop_scale=(1, 1), flip=0, jitter=(0.1, 0.2, 0.3, 0.4), affine_degrees=10.0)
    colour, blur = Colour(solarize=[0.0, 0.5, 1.0]), Blur([0.3, 0.2, 0.1], [0.5, 3.0])
    views = MultiCrop(SPEC, "3+1", [0.3, 0.9], [0.1, 0.3], colour=colour, blur=blur)
    made = [r for _, recipes in views.groups for r in recipes]
    assert [r.crop_scale for r in made] == [(0.3, 0.9)] * 3 + [(0.1, 0.3)]
    assert [r.blur for r in made] == [0.3, 0.2, 0.2, 0.1]
    assert [r.solarize for r in made] == [0.0, 0.5, 0.5, 1.0]
    assert {r.blur_sigma for r in made} == {(0.5, 3.0)}
    assert MultiCrop(SPEC, colour=Colour(gray=0.0)).groups[1][1][0].gray == 0.0


@pytest.mark.parametrize(
    ("views", "side"),
    [
        (MultiCrop(replace(SPEC, size=224), "2x224+8x96"), None),
        (MultiCrop(replace(SPEC, size=224), "2x224+8x96", draft=True), 496),
        (MultiCrop(replace(SPEC, size=224), "2x224+8x96", local_scale=[0.3, 0.4], draft=True), 409),
        (MultiCrop(SPEC, local_scale=[0.0, 0.4], draft=True), None),
        (SingleView(SPEC, draft=True), 32),
        (SingleView(replace(SPEC, crop_fraction=0.5), strength=0, draft=True), 64),
    ],
)
def test_draft_keeps_what_crops_need(views: SingleView | MultiCrop, side: int | None) -> None:
    assert views.draft_side == side


def test_blur_of_small_views_is_smaller() -> None:
    sigmas = [SingleView(replace(SPEC, size=size)).recipe.blur_sigma for size in (224, 96, 48, 4)]
    assert sigmas == [(0.1, 2.0), (0.1, 2.0), (0.1, 1.0), (0.1, 0.1)]


@pytest.mark.parametrize(
    ("size", "divisor", "local"), [(224, 1, 96), (224, 14, 98), (518, 14, 224), (32, 1, 14), (32, 4, 12), (8, 8, 8)]
)
def test_default_sizes_follow_the_backbone(size: int, divisor: int, local: int) -> None:
    spec = replace(SPEC, size=size, divisor=divisor)
    assert parse_crops("2+8", spec) == [(2, size), (8, local)]
    assert parse_crops(f"2x{size}+4", spec) == [(2, size), (4, local)]
    assert parse_crops("2+2xinput", spec) == [(2, size), (2, size)]


@pytest.mark.parametrize("crops", ["", "2x32+", "0x32", "2*32", "-1x32", "2x32,8x16", "axb", "2x0"])
def test_malformed_crops(crops: str) -> None:
    with pytest.raises(UserError, match=r"^crops: .*give groups"):
        MultiCrop(SPEC, crops)


def test_crops_that_the_backbone_cannot_take() -> None:
    with pytest.raises(UserError, match=r"^crops: 30 pixels is no multiple .* 28 or 32"):
        MultiCrop(SPEC, "2x32+8x30")
    with pytest.raises(UserError, match=r"^crops: 2 pixels is no multiple .* choose 4$"):
        MultiCrop(SPEC, "2x32+8x2")
    with pytest.raises(UserError, match=r"^crops: 224 pixels is more than .* 32;"):
        MultiCrop(SPEC, "2x224+8x96")
    with pytest.raises(UserError, match=r"^size: 36 pixels is more than"):
        SingleView(SPEC, size=36)
    with pytest.raises(UserError, match=r"^size: 0 pixels"):
        SingleView(SPEC, size=0)


@pytest.mark.parametrize(
    ("views", "key", "value"),
    [
        (SingleView, "strength", 4),
        (SingleView, "flip", 1.5),
        (SingleView, "crop_scale", [0.5, 0.2]),
        (SingleView, "crop_scale", [0.5]),
        (SingleView, "crop_scale", [0.5, 1.2]),
        (SingleView, "colour.jitter", [0.4, 0.4, 0.4]),
        (SingleView, "colour.jitter", [0.4, 0.4, 0.4, 0.6]),
        (SingleView, "colour.jitter_probability", -0.1),
        (SingleView, "blur.sigma", [0.0, 1.0]),
        (SingleView, "affine.degrees", 200),
        (SingleView, "colour.gray", float("nan")),
        (MultiCrop, "global_scale", [0.4, 0.2]),
        (MultiCrop, "local_scale", [0.4, 2]),
        (MultiCrop, "colour.solarize", [0.0, 0.2, 1.1]),
        (MultiCrop, "blur.sigma", [2.0, 1.0]),
    ],
)
def test_values_out_of_range(views: Any, key: str, value: Any) -> None:
    part, _, name = key.rpartition(".")
    with pytest.raises(UserError, match=rf"^{re.escape(f'{part}.{name}: {value}')}; must be .*\d"):
        check_arguments(PARTS[part] if part else views, {name: value}, part)


@pytest.mark.parametrize(
    ("views", "key", "value"),
    [
        (SingleView, "colour.solarize", [0.0, 0.2, 0.1]),
        (SingleView, "blur.probability", [0.2]),
        (MultiCrop, "blur.probability", [0.4, 0.2]),
        (MultiCrop, "blur.probability", 0.5),
    ],
)
def test_every_kind_of_view_has_a_probability(views: Any, key: str, value: Any) -> None:
    part, _, name = key.partition(".")
    with pytest.raises(UserError, match=rf"^{key}: {re.escape(str(value))}; must be "):
        views(SPEC, **{part: PARTS[part](**{name: value})})


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_kernel_cuts_the_blur(kernel: int) -> None:
    input_ = InputSpec(size=40, mean=(0, 0, 0), std=(1, 1, 1))
    images = torch.randint(256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blur = Blur(probability=1.0, sigma=[1.5, 1.5], kernel=kernel)
    (found,) = SingleView(input_, 0, blur=blur)(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, tvf.gaussian_blur(images / 255, [kernel] * 2, [1.5] * 2), atol=1e-5, rtol=0)


def test_a_kernel_has_a_middle() -> None:
    with pytest.raises(UserError, match=r"^kernel: 4; must be odd"):
        Blur(kernel=4)
