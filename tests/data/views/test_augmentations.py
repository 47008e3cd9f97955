"""Augmentations by name: what they do, how often, and what is shared by the crops of a picture."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor

from dinodiet.data.views import MultiCrop
from dinodiet.data.views.augmentations import Augmentations, _Dino
from dinodiet.data.views.recipes import Draw
from dinodiet.data.views.settings import Blur, Colour
from dinodiet.errors import UserError
from dinodiet.types import InputSpec

SPEC = InputSpec(28, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
WHOLE = [1.0, 1.0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 5, height: int = 28, width: int = 28) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=generator(7)).byte()


def alike(count: int, side: int = 28) -> Tensor:
    """Return one picture so many times, with no zeros in it."""
    return pictures(1, side, side).clamp(min=1).expand(count, 3, side, side).contiguous()


def test_a_single_view_without_augmentations_is_the_picture_itself() -> None:
    images = pictures()
    views = MultiCrop(SPEC, "1x28", WHOLE, augs=[])
    assert (views.num_global, views.sides, views.fixed) == (1, [28], True)
    for made in (views(images, generator()), views(list(images), generator(1))):
        torch.testing.assert_close(made[0], images.float() / 255, atol=1e-6, rtol=0)
    resized = MultiCrop(SPEC, "1x14", WHOLE, augs=[])(pictures(5, 56, 56), generator())[0]
    expected = tvf.resize(pictures(5, 56, 56).float() / 255, [14, 14], tvf.InterpolationMode.BICUBIC).clamp(0, 1)
    torch.testing.assert_close(resized, expected, atol=1e-5, rtol=0)


def test_without_augmentations_the_crop_is_all_that_is_random() -> None:
    level = torch.arange(3, dtype=torch.uint8).mul(80)[None, :, None, None].expand(4, 3, 28, 28)
    views = MultiCrop(SPEC, "2x28+3x12", per_crop_augs=[])
    assert not views.fixed
    for view in views(level, generator()):  # of a picture of one colour every crop is the same
        torch.testing.assert_close(view, (level.float() / 255)[..., :1, :1].expand_as(view), atol=1e-6, rtol=0)
    rising = torch.arange(28, dtype=torch.uint8).mul(9).expand(4, 3, 28, 28)
    for view in views(rising, generator()):  # and no crop is mirrored
        assert (view.diff(dim=3) > -1e-3).all()


def test_padcrop_shifts_by_up_to_4_pixels_and_fills_with_zeros() -> None:
    images = alike(500)
    made = Augmentations(["padcrop"]).pictures(images, generator())
    padded = tvf.pad(images[:1], [4])
    windows = {(y, x): padded[0, :, y : y + 28, x : x + 28] for y in range(9) for x in range(9)}
    found = [[place for place, window in windows.items() if window.equal(one)] for one in made]
    assert all(len(places) == 1 for places in found)
    assert len({places[0] for places in found}) == 81  # of 500: all shifts


def test_the_pipelines_are_drawn_by_their_shares() -> None:
    drawn: Draw = _Dino().draw(torch.ones(40_000, dtype=torch.bool), generator())
    share = {"blur": 0.4 * 1.0 + 0.4 * 0.1 + 0.2 * 0.5, "solarize": 0.4 * 0.2, "flip": 0.5, "jitter": 0.8, "gray": 0.2}
    for name, expected in share.items():
        assert getattr(drawn, name).float().mean().item() == pytest.approx(expected, abs=0.01), name
    assert (drawn.blur & drawn.solarize).float().mean().item() == pytest.approx(0.4 * 0.1 * 0.2, abs=0.003)
    assert drawn.sigma.min() >= 0.1 and drawn.sigma.max() <= 2.0
    assert drawn.sigma.mean().item() == pytest.approx(1.05, abs=0.01)
    low, high = drawn.factors[:, :3].amin(0), drawn.factors[:, :3].amax(0)
    torch.testing.assert_close(low, torch.tensor([0.6, 0.6, 0.8]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.4, 1.4, 1.2]), atol=0.01, rtol=0)
    assert drawn.factors[:, 3].abs().max().item() == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize(("side", "blurs"), [(28, False), (32, False), (63, False), (64, True)])
def test_small_pictures_are_not_blurred(side: int, blurs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Draw] = []
    do = _Dino.do

    def seeing(self: _Dino, pixels: Tensor, drawn: Draw) -> Tensor:
        seen.append(drawn)
        return do(self, pixels, drawn)

    monkeypatch.setattr(_Dino, "do", seeing)
    views = MultiCrop(replace(SPEC, size=64), "2x28", augs=["dino"], per_crop_augs=["dino"])
    views(pictures(20, side, 90), generator())
    views(list(pictures(20, side, 90)), generator())
    assert len(seen) == 1 + 2 + 20 + 2
    assert any(bool(drawn.blur.any()) for drawn in seen) == blurs


def test_a_pipeline_does_what_torchvision_does() -> None:
    images = pictures(12, 70, 90)
    drawn = _Dino().draw(torch.ones(12, dtype=torch.bool), generator(3))
    drawn = replace(drawn, jitter=torch.zeros(12, dtype=torch.bool))  # its order is tested beside the operation
    assert drawn.blur.any() and drawn.gray.any() and drawn.flip.any() and not drawn.flip.all()
    made = _Dino().do(images.float() / 255, replace(drawn, solarize=torch.arange(12) % 3 == 0))
    for n, image in enumerate(images.float() / 255):
        flipped = tvf.horizontal_flip(image) if drawn.flip[n] else image
        gray = tvf.rgb_to_grayscale(flipped, 3) if drawn.gray[n] else flipped
        blurred = tvf.gaussian_blur(gray, [9, 9], [float(drawn.sigma[n])] * 2) if drawn.blur[n] else gray
        expected = tvf.solarize(blurred, 128 / 255) if n % 3 == 0 else blurred
        off = (made[n] - expected).abs() > 1e-4
        assert off.float().mean() < 2e-3, n  # rounding at the threshold of solarisation


def test_crops_share_what_happens_to_the_picture_and_are_augmented_apart() -> None:
    images = alike(40)
    first, second = MultiCrop(SPEC, "2x28", WHOLE, augs=["padcrop", "dino"])(images, generator())
    assert first.equal(second)
    assert not first[0].equal(first[1])
    first, second = MultiCrop(SPEC, "2x28", WHOLE, per_crop_augs=["padcrop"])(images, generator())
    same = [a.equal(b) for a, b in zip(first, second, strict=True)]
    assert sum(same) < 5
    assert not first[0].equal(first[1])


def test_augmentations_happen_in_the_order_of_their_names() -> None:
    orders: Any = (["dino", "padcrop"], ["padcrop", "dino"])
    black = []
    for names in orders:
        made = Augmentations(names).pictures(alike(300), generator())
        assert isinstance(made, Tensor)
        black.append(float((made[:, :, 0] == 0).all(2).all(1).float().mean()))  # whose first row is filled
    assert black[0] == pytest.approx(4 / 9, abs=0.07)
    assert black[1] < 0.3  # jitter of the contrast makes zeros gray


@pytest.mark.parametrize("names", [["hflip"], ["padcrop", "hflip", "dino"]])
def test_a_list_of_pictures_gives_what_a_batch_gives(names: Any) -> None:
    images = pictures(9, 70, 80)
    views = MultiCrop(SPEC, "2x28+1x12", augs=names, per_crop_augs=names)
    for a, b in zip(views(images, generator()), views(list(images), generator()), strict=True):
        assert ((a - b).abs() > 0.01).float().mean() < 2e-3  # rounding at a threshold


@pytest.mark.parametrize("as_list", [False, True])
def test_no_pixel_is_asked_for_its_value(as_list: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # the device knows none
    names: Any = ["padcrop", "hflip", "dino"]
    images = pictures().to("meta")
    views = MultiCrop(SPEC, "2x28+1x12", augs=names, per_crop_augs=names)
    made = views(list(images) if as_list else images, generator())
    assert [(view.shape[-1], view.is_meta) for view in made] == [(28, True), (28, True), (12, True)]


def test_views_are_told_apart_by_their_augmentations() -> None:
    given: Any = ({}, {"augs": []}, {"augs": ["dino"]}, {"per_crop_augs": ["dino"]}, {"augs": ["dino", "hflip"]})
    assert len({repr(MultiCrop(SPEC, "2", **settings)) for settings in given}) == 5
    assert "augs" not in repr(MultiCrop(SPEC, "2"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"flip": 0.3}, "flip: 0.3; augs"),
        ({"colour": Colour(gray=0.1)}, "colour.gray: 0.1; augs"),
        ({"colour": Colour(solarize=[0.0, 0.2, 0.0])}, r"colour.solarize: \[0.0, 0.2, 0.0\]; augs"),
        ({"blur": Blur(sigma=[0.1, 1.0])}, r"blur.sigma: \[0.1, 1.0\]; augs"),
        ({"draft": True}, "draft: true; augs"),
    ],
)
def test_what_augmentations_take_the_place_of_is_refused(settings: dict[str, Any], said: str) -> None:
    MultiCrop(SPEC, "2", flip=0.0, colour=Colour(gray=0.0, solarize=[0.0] * 3), blur=Blur([0.0] * 3), augs=["hflip"])
    with pytest.raises(UserError, match=f"^{said}"):
        MultiCrop(SPEC, "2", augs=["hflip"], **settings)
