"""What a model of Hugging Face expects of its images: `preprocessor_config.json` as an `InputSpec`.

Images are resized by their shorter side and cut to a square in the middle, whatever the processor does with their
aspect ratio: evaluations of all backbones see the same part of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING_NAMES,
    get_image_processor_class_from_name,
)

from dinodiet.errors import UserError
from dinodiet.types import Interpolation

_BILINEAR = 2  # PIL's number
_FLIP = "do_flip_channel_order"
_NEVER = 0.0, 0.0, 0.0
_ONES = 1.0, 1.0, 1.0
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Processor:
    """The part of an image processor that a network depends on.

    `side` is that of its input in pixels, None where it does not say; `mean` and `std` are per channel for images in
    0..1, in the order RGB; `flipped`: the network takes BGR.
    """

    side: int | None
    mean: Triple = _NEVER
    std: Triple = _ONES
    interpolation: Interpolation = "bicubic"
    crop_fraction: float = 1.0
    flipped: bool = False


def processor(facts: Mapping[str, Any], whose: str, kind: str | None = None) -> Processor:
    """Return what a `preprocessor_config.json`, or the part of a `processor_config.json` for images, asks for.

    `kind` is the model's type in transformers: it has the image processor where the file names none.

    Raises:
        UserError: a value that is no mean, deviation or size.
    """
    facts = facts.get("image_processor", facts) if isinstance(facts.get("image_processor"), Mapping) else facts
    resized, cut = _side(facts.get("size"), whose), _side(facts.get("crop_size"), whose)
    crops = bool(facts.get("do_center_crop")) and cut is not None
    side = cut if crops else resized
    mean, std = _normalisation(facts, whose)
    return Processor(
        side=side,
        mean=mean,
        std=std,
        interpolation="bilinear" if facts.get("resample") == _BILINEAR else "bicubic",
        crop_fraction=_crop_fraction(facts, side, resized if crops else None, whose),
        flipped=_flipped(facts, kind),
    )


def _flipped(facts: Mapping[str, Any], kind: str | None) -> bool:
    """Return whether the network takes BGR: what the file says, else what the library's processor does."""
    stated = facts.get(_FLIP)
    return bool(getattr(_class(facts, kind), _FLIP, False) if stated is None else stated)


def _class(facts: Mapping[str, Any], kind: str | None) -> Any:
    """Return the class of the image processor that a file names, or that a kind of models has; None: it has none."""
    named = facts.get("image_processor_type") or facts.get("feature_extractor_type")
    if isinstance(named, str):  # as earlier versions called it too
        return get_image_processor_class_from_name(
            named.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
        )
    known = IMAGE_PROCESSOR_MAPPING_NAMES.get(kind or "", {})
    return get_image_processor_class_from_name(known["torchvision"]) if known.get("torchvision") else None


def _side(size: Any, whose: str) -> int | None:
    """Return the side in pixels that a size of Hugging Face means: a number, or a mapping of sides."""
    if isinstance(size, Mapping):
        known = [size[key] for key in ("shortest_edge", "height", "width") if size.get(key) is not None]
        size = known[0] if known else None
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= 4096):
        raise UserError(f"name: the processor of {whose} has a size of {size!r}; must be from 1 to 4096 pixels")
    return size


def _crop_fraction(facts: Mapping[str, Any], side: int | None, resized: int | None, whose: str) -> float:
    """Return the part of the shorter side that is kept: as ConvNeXt's processor says it, or by the two sizes."""
    stated = facts.get("crop_pct")
    if stated is None:
        return 1.0 if side is None or resized is None else min(1.0, side / resized)
    if not isinstance(stated, int | float) or not 0 < stated <= 1:
        raise UserError(f"name: the processor of {whose} has crop_pct {stated!r}; must be above 0, at most 1")
    return float(stated)


def _normalisation(facts: Mapping[str, Any], whose: str) -> tuple[Triple, Triple]:
    """Return mean and deviation for images in 0..1, whatever scale the processor brings them to."""
    factor = float(facts.get("rescale_factor") or 1 / 255) if facts.get("do_rescale", True) else 1.0
    scale = 255 * factor
    if not facts.get("do_normalize", True):
        return _NEVER, (1 / scale,) * 3
    mean, std = (_triple(facts, key, whose) for key in ("image_mean", "image_std"))
    return _scaled(mean, scale), _scaled(std, scale)


def _scaled(values: Triple, scale: float) -> Triple:
    return values[0] / scale, values[1] / scale, values[2] / scale


def _triple(facts: Mapping[str, Any], key: str, whose: str) -> Triple:
    given = facts.get(key)
    values: Any = [given] * 3 if isinstance(given, int | float) else given
    number = isinstance(values, list) and len(values) == 3 and all(isinstance(value, int | float) for value in values)
    if not number or (key == "image_std" and min(values) <= 0):
        kind = "three numbers above 0" if key == "image_std" else "three numbers"
        raise UserError(f"name: the processor of {whose} has {key} {given!r}; must be {kind}")
    first, second, third = map(float, values)
    return first, second, third
