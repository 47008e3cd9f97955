"""Augmented views of a batch, made on its device: one (`SingleView`, for DIET) or many (`MultiCrop`, for DINO)."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from dinodiet.config.ranges import Fraction, Joined, Range, Side
from dinodiet.data.views.augmentations import Augmentations, Name
from dinodiet.data.views.limits import check_size
from dinodiet.data.views.recipes import Pair, Recipe, make_views
from dinodiet.data.views.settings import Affine, Blur, Colour, Scale, frozen, recipe_fields
from dinodiet.errors import UserError
from dinodiet.types import InputSpec

Augs = Joined[list[Name] | None]
MOST_VIEWS = 256  # in a group
_WEAK = Recipe(crop_scale=(0.08, 1.0), resize_first=True, flip=0.5)
_DIET_CP = replace(_WEAK, jitter=(0.4, 0.4, 0.4, 0.2), jitter_probability=0.3, gray=0.2)
_STRENGTHS = (Recipe(), _WEAK, _DIET_CP, replace(_DIET_CP, jitter_probability=0.8, blur=0.5, solarize=0.2))
_DINO = Recipe(flip=0.5, jitter=(0.4, 0.4, 0.2, 0.1), jitter_probability=0.8, gray=0.2)


class SingleView:
    """One view per image.

    `strength` is a preset:

    0. the image as in evaluation;
    1. random resized crop (scale 0.08-1) of the image resized to `size`, and a flip;
    2. the recipe of DIET-CP (Rodas et al. 2025, arXiv:2509.06990): also colour jitter (0.4, 0.4, 0.4, 0.2) with
       probability 0.3, and gray with 0.2;
    3. stronger: jitter with probability 0.8, and also blur with 0.5 and solarisation with 0.2.

    Any other argument that is given replaces the preset's value; `Recipe` says what each means. `size` defaults to the
    backbone's input size, `draft` is as in `MultiCrop`.

    Raises:
        UserError: a size that the backbone cannot take, or a list of another length than it should have.
    """

    num_global = 1
    fixed: bool

    def __init__(
        self,
        input: InputSpec,
        strength: Annotated[int, Range(0, 3)] = 2,
        size: Side[int | None] = None,
        crop_scale: Scale | None = None,
        resize_first: bool | None = None,
        flip: Fraction[float | None] = None,
        affine: Affine | None = None,
        colour: Colour | None = None,
        blur: Blur | None = None,
        draft: bool = False,
    ) -> None:
        size = input.size if size is None else size
        check_size("size", size, input)
        preset = replace(_STRENGTHS[strength], blur_sigma=_blur_sigma(size))
        settings = {"crop_scale": crop_scale, "resize_first": resize_first, "flip": flip}
        given = {key: frozen(value) for key, value in settings.items() if value is not None}
        self.input, self.sides = replace(input, size=size), [size]
        self.recipe = replace(preset, **given, **recipe_fields(affine, colour, blur))
        self.draft_side = source_side([(self.input, [self.recipe])]) if draft else None
        plain = replace(self.recipe, resize_first=False, blur_sigma=Recipe.blur_sigma, blur_kernel=None)
        self.fixed = plain == Recipe()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.input}, {self.recipe}, draft_side={self.draft_side})"

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return one view in 0..1: [float32 (B, 3, size, size)]."""
        return make_views(images, [self.recipe], self.input, generator)


class MultiCrop:
    """Global and local crops of each image, as in DINO's `main_dino.py` (Caron et al. 2021, arXiv:2104.14294).

    `crops` lists groups of views joined by `+`, each a number of views or `<number>x<pixels>`; the first group are the
    global ones. Where no pixels are given, a global crop has the backbone's input size and a local one 96/224 of it
    (rounded to what the backbone can take), so `2+8` is the published `2x224+8x96` at 224 pixels; `2+2xinput` has local
    crops of the input size too.

    `colour.solarize` and `blur.probability` are those of the first global view, the other global views, and the local
    ones (None: 0, 0.2, 0 and 1.0, 0.1, 0.5). Other defaults are as published.

    With `draft`, large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size for training, as long as no crop has to
    be enlarged for it: faster, but other pixels than full decoding gives. Evaluation always decodes in full.

    `augs` happen to the whole picture before it is cropped, so that all its crops share them; `per_crop_augs` to each
    crop by itself, see `Augmentations`. With either of them, an empty list too, they take the place of `flip`, `colour`
    and `blur`: crops are then all that is random besides. `1x28` of a `global_scale` 1 to 1 is the picture itself.

    Raises:
        UserError: a malformed specification, a crop that the backbone cannot take, a list of another length, or
            settings of colours beside augmentations that take their place.
    """

    def __init__(
        self,
        input: InputSpec,
        crops: Annotated[str | int, Range(1, MOST_VIEWS)] = "2+8",
        global_scale: Scale | None = None,
        local_scale: Scale | None = None,
        flip: Fraction[float | None] = None,
        colour: Colour | None = None,
        blur: Blur | None = None,
        draft: bool = False,
        augs: Augs = None,
        per_crop_augs: Augs = None,
    ) -> None:
        large = (0.4, 1.0) if global_scale is None else frozen(global_scale)
        small = (0.05, 0.4) if local_scale is None else frozen(local_scale)
        self.augs, self.per_crop_augs = Augmentations(augs or []), Augmentations(per_crop_augs or [])
        sigma = None if blur is None else frozen(blur.sigma)
        if plain := augs is not None or per_crop_augs is not None:
            _check_replaced(flip, colour, blur, draft and bool(augs or per_crop_augs))
            first, other, local = (Recipe(crop_scale=scale) for scale in (large, large, small))
        else:
            first, other, local = _by_kind((large, large, small), flip, colour, blur)
        self.groups: list[tuple[InputSpec, list[Recipe]]] = []
        for number, size in parse_crops(crops, input):
            recipes = [local] * number if self.groups else [first, *[other] * (number - 1)]
            recipes = [replace(recipe, blur_sigma=sigma or _blur_sigma(size)) for recipe in recipes]
            self.groups.append((replace(input, size=size), recipes))
        self.num_global, self.sides = len(self.groups[0][1]), [spec.size for spec, _ in self.groups]
        self.draft_side = source_side(self.groups) if draft else None
        scales = {recipe.crop_scale for _, recipes in self.groups for recipe in recipes}
        self.fixed = plain and not self._named and scales == {(1.0, 1.0)}

    @property
    def _named(self) -> dict[str, tuple[str, ...]]:
        """Return the augmentations that happen, by the argument that they are given as."""
        named = {"augs": self.augs.names, "per_crop_augs": self.per_crop_augs.names}
        return {argument: names for argument, names in named.items() if names}

    def __repr__(self) -> str:
        named = "".join(f", {argument}={'_'.join(names)}" for argument, names in self._named.items())
        return f"{type(self).__name__}({self.groups}, draft_side={self.draft_side}{named})"

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return the views in 0..1, global ones first, each float32 (B, 3, s, s)."""
        seen = self.augs.pictures(images, generator)
        views = [view for spec, recipes in self.groups for view in make_views(seen, recipes, spec, generator)]
        return self.per_crop_augs.crops(views, images, generator)


def _by_kind(
    scales: tuple[Pair, Pair, Pair], flip: float | None, colour: Colour | None, blur: Blur | None
) -> tuple[Recipe, Recipe, Recipe]:
    """Return the recipes of the first global view, the other global views, and the local ones; sigma is still open."""
    common = recipe_fields(colour=colour, blur=blur, kinds=3)
    blurs, solarizes = common.pop("blur", (1.0, 0.1, 0.5)), common.pop("solarize", (0.0, 0.2, 0.0))
    common.pop("blur_sigma", None)
    if flip is not None:
        common["flip"] = flip
    first, other, local = (
        replace(_DINO, crop_scale=scale, blur=b, solarize=s, **common)
        for scale, b, s in zip(scales, blurs, solarizes, strict=True)
    )
    return first, other, local


def _check_replaced(flip: float | None, colour: Colour | None, blur: Blur | None, drafted: bool) -> None:
    """Refuse settings that augmentations by name take the place of; what switches off does not disturb them.

    Raises:
        UserError: naming them.
    """
    groups = {"colour": colour, "blur": blur}
    acting = {f"{group}.{key}": value for group, node in groups.items() for key, value in vars(node or Blur()).items()}
    acting["flip"] = None if flip == _DINO.flip else flip
    for key, value in acting.items():
        if any(value) if isinstance(value, list) else value:
            raise UserError(f"{key}: {value}; augs and per_crop_augs take its place; set it to null, or them")
    if drafted:
        raise UserError("draft: true; augs and per_crop_augs are for pictures in their own size; choose false")


def parse_crops(crops: str | int, input: InputSpec) -> list[tuple[int, int]]:
    """Return (number, pixels) per group of a specification such as `2x224+8x96`, see `MultiCrop`.

    Raises:
        UserError: the specification is malformed, or the backbone cannot take crops of that size.
    """
    groups: list[tuple[int, int]] = []
    for text in str(crops).split("+"):
        match = re.fullmatch(r"\s*([1-9]\d*)(?:\s*x\s*([1-9]\d*|input))?\s*", text)
        if match is None:
            raise UserError(f"crops: {crops!r}; give groups such as 2x224+8x96, or 2+8 for the default sizes")
        local = max(1, round(input.size * 96 / 224 / input.divisor)) * input.divisor
        default = local if groups else input.size
        if int(match[1]) > MOST_VIEWS:
            raise UserError(f"crops: {crops!r}; {match[1]} views of an image are more than {MOST_VIEWS}")
        groups.append((int(match[1]), input.size if match[2] == "input" else int(match[2] or default)))
        check_size("crops", groups[-1][1], input)
    return groups


def source_side(groups: list[tuple[InputSpec, list[Recipe]]]) -> int | None:
    """Return the shorter side of an image from which on no view is enlarged; None where crops may be of any size.

    The narrowest crop has the least area and the most extreme ratio, 4/3; of an image that is resized first, or not
    cropped, the shorter side becomes the view's, or somewhat more where evaluation crops the middle.
    """
    sides = []
    for spec, recipes in groups:
        for recipe in recipes:
            part = recipe.crop_scale
            if part is None:
                sides.append(spec.size / spec.crop_fraction)
            elif recipe.resize_first:
                sides.append(float(spec.size))
            elif part[0] == 0:
                return None
            else:
                sides.append(spec.size / math.sqrt(part[0] * 3 / 4))
    return math.ceil(max(sides))


def _blur_sigma(size: int) -> tuple[float, float]:
    """Return the published range in pixels, shrunk in proportion for views smaller than the smallest published ones."""
    return 0.1, max(0.1, 2.0 * min(1.0, size / 96))
