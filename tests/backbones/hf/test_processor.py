"""What processors ask for, in the forms in which the hub has them."""

from typing import Any

import pytest

from dinodiet.backbones.hf.processor import Processor, processor
from dinodiet.errors import UserError

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
MEAN = STD = (0.5, 0.5, 0.5)

FORMS: dict[str, tuple[dict[str, Any], Processor]] = {
    "a side alone": ({**HALF, "size": 224, "resample": 2}, Processor(224, MEAN, STD, "bilinear")),
    "height and width": ({**HALF, "size": {"height": 384, "width": 384}, "resample": 3}, Processor(384, MEAN, STD)),
    "resized and cut": (
        {**HALF, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True},
        Processor(224, MEAN, STD, crop_fraction=0.875),
    ),
    "a crop that is switched off": (
        {**HALF, "size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": False},
        Processor(256, MEAN, STD),
    ),
    "ConvNeXt's crop": (
        {**HALF, "size": {"shortest_edge": 224}, "crop_pct": 0.95},
        Processor(224, MEAN, STD, crop_fraction=0.95),
    ),
    "not normalised, and BGR": (
        {
            **{"size": {"shortest_edge": 288}, "crop_size": 256, "do_center_crop": True, "resample": 2},
            **{"do_normalize": False, "do_flip_channel_order": True},
        },
        Processor(256, (0, 0, 0), (1, 1, 1), "bilinear", 256 / 288, flipped=True),
    ),
    "pixels in 0..255": (
        {"image_mean": [127.5] * 3, "image_std": [127.5] * 3, "do_rescale": False},
        Processor(None, MEAN, STD),
    ),
    "in a processor of images and text": ({"image_processor": {**HALF, "size": 32}}, Processor(32, MEAN, STD)),
    "one number for all channels": ({"image_mean": 0.5, "image_std": 0.5}, Processor(None, MEAN, STD)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read(form: str) -> None:
    given, expected = FORMS[form]
    found = processor(given, "a model")
    assert found.mean == pytest.approx(expected.mean) and found.std == pytest.approx(expected.std)
    assert (found.side, found.interpolation, found.flipped) == (expected.side, expected.interpolation, expected.flipped)
    assert found.crop_fraction == pytest.approx(expected.crop_fraction)


@pytest.mark.parametrize(
    ("told", "kind", "flipped"),
    [
        ({"image_processor_type": "MobileViTImageProcessor"}, None, True),
        ({"image_processor_type": "MobileViTImageProcessorFast"}, None, True),
        ({"feature_extractor_type": "MobileViTFeatureExtractor"}, "vit", True),
        ({}, "mobilevit", True),
        ({"image_processor_type": "ViTImageProcessor"}, "mobilevit", False),
        ({"image_processor_type": "NoSuchImageProcessor"}, "vit", False),
        ({"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": False}, "mobilevit", False),
        ({"image_processor_type": 3}, "no_such_kind", False),
    ],
)
def test_the_order_of_colours_is_that_of_the_librarys_processor(
    told: dict[str, Any], kind: str | None, flipped: bool
) -> None:
    assert processor({**HALF, **told}, "a model", kind).flipped == flipped


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({**HALF, "size": -1}, "a size of -1"),
        ({**HALF, "size": {"height": "large"}}, "a size of 'large'"),
        ({"image_mean": [0.5], "image_std": [0.5] * 3}, r"image_mean \[0\.5\]"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5, 0, 0.5]}, "image_std .* three numbers above 0"),
        ({"image_mean": [0.5] * 3}, "image_std None"),
        ({**HALF, "crop_pct": 2}, "crop_pct 2"),
    ],
)
def test_what_is_no_size_mean_or_deviation_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=f"^name: the processor of a model has {problem}"):
        processor(given, "a model")
