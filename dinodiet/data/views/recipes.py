"""An augmentation recipe: what may happen to an image, the drawing of what does, and the doing.

Drawing and doing are apart. All random numbers come from one generator on the CPU, so that a run on the CPU and one
on a GPU see the same crops; whether a recipe uses an operation or not, the same numbers are drawn for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dinodiet.data.preprocess import preprocess
from dinodiet.data.views import augment
from dinodiet.data.views.crops import crop, draw_boxes, short_side
from dinodiet.data.views.erasing import erase
from dinodiet.data.views.sending import send
from dinodiet.processes.rows import draw_rows
from dinodiet.types import InputSpec

Pair = tuple[float, float]

# Pixels (of one channel) of views that are made at once, and of those a CPU's cache holds for the photometry. On a GPU
# each operation has a price beside its pixels: ten crops of 64 images took 3.8 times as long on an H200 with 2**22, and
# as long with 2**27. A part needs some 20 bytes a pixel, which on a small GPU the training needs.
_CPU_PIXELS, _CACHED_PIXELS, _GPU_PIXELS = 2**19, 2**18, 2**25
_GPU_SHARE = 2**10  # bytes of a GPU's memory for each of those pixels


@dataclass(frozen=True)
class Recipe:
    """The operations in their order; numbers are probabilities where not said otherwise. The default does nothing."""

    crop_scale: Pair | None = None  # area of the random crop as parts of the image; None: the whole, as in evaluation
    resize_first: bool = False  # resize the shorter side to the view's size before the crop is taken
    flip: float = 0.0  # left-right
    affine_degrees: float = 0.0  # largest rotation
    affine_translate: float = 0.0  # largest shift as a part of the side
    affine_scale: float = 0.0  # largest change of size: 0.1 is 0.9-1.1
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    jitter_probability: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: Pair = (0.1, 2.0)  # pixels
    solarize: float = 0.0
    blur_kernel: int | None = None  # pixels; None: as far as the Gaussian reaches
    erasing: float = 0.0  # that a box becomes the mean colour

    def __repr__(self) -> str:
        """Return all settings; those that came later where they are set, as kept views are found by this text."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        later = {name: values.pop(name) for name in ("blur_kernel", "erasing")}
        told = [f"{name}={value!r}" for name, value in (values | {k: v for k, v in later.items() if v}).items()]
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass(frozen=True)
class Draw:
    """What happens to each of N images: tensors on the CPU with N rows."""

    flip: Tensor  # bool
    angle: Tensor  # degrees
    translate: Tensor  # (N, 2): x, y as parts of the side
    scale: Tensor
    jitter: Tensor  # bool
    factors: Tensor  # (N, 4): brightness, contrast, saturation, hue
    order: Tensor  # int64 (N, 4), a permutation of the four
    gray: Tensor  # bool
    blur: Tensor  # bool
    sigma: Tensor  # pixels
    solarize: Tensor  # bool
    boxes: Tensor | None  # int64 (N, 4): top, left, height, width; None: no random crop

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, part: slice | Tensor) -> Draw:
        rows: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        rows.update({name: value[part] for name, value in rows.items() if value is not None})
        return Draw(**rows)


def draw(recipes: Sequence[Recipe], heights: Tensor, widths: Tensor, size: int, generator: torch.Generator) -> Draw:
    """Draw for views of `size` pixels of B images of (B,) `heights` and `widths`; rows run over views, then images."""
    settings = numbers(recipes).repeat_interleave(len(heights), 0)
    drawn = draw_operations(settings, generator, views=len(recipes))
    return replace(drawn, boxes=_boxes(recipes, heights, widths, size, generator))


def draw_operations(settings: Tensor, generator: torch.Generator, *, views: int = 1) -> Draw:
    """Draw for N rows, over `views`, then images, by the `numbers` of a recipe each, (N, 14); no boxes."""
    settings = settings.T
    flip, angle, shift, zoom, jitter, gray, blur, solarize = settings[:8]
    strength, sigma = settings[8:12], settings[12:]

    def draw_all(rows: int) -> Tensor:
        return torch.rand(18, rows, generator=generator)

    u = draw_rows(draw_all, settings.shape[1], generator, blocks=views, dim=1)
    signed = 2 * u - 1
    factors = strength * signed[8:12]
    factors[: augment.HUE] = (1 - strength[: augment.HUE]).clamp(min=0).lerp(1 + strength[: augment.HUE], u[8:11])
    return Draw(
        flip=u[0] < flip,
        angle=signed[1] * angle,
        translate=(signed[2:4] * shift).T,
        scale=1 + signed[4] * zoom,
        jitter=u[5] < jitter,
        gray=u[6] < gray,
        blur=u[7] < blur,
        factors=factors.T,
        order=u[12:16].argsort(0).T,
        sigma=sigma[0].lerp(sigma[1], u[16]),
        solarize=u[17] < solarize,
        boxes=None,
    )


def numbers(recipes: Sequence[Recipe]) -> Tensor:
    """Return what is drawn by, one row a recipe, float32 (recipes, 14)."""
    return torch.tensor([_numbers(recipe) for recipe in recipes], dtype=torch.float32)


def _numbers(recipe: Recipe) -> list[float]:
    chances = recipe.jitter_probability, recipe.gray, recipe.blur, recipe.solarize
    extents = recipe.affine_degrees, recipe.affine_translate, recipe.affine_scale
    return [recipe.flip, *extents, *chances, *recipe.jitter, *recipe.blur_sigma]


def _boxes(
    recipes: Sequence[Recipe], heights: Tensor, widths: Tensor, size: int, generator: torch.Generator
) -> Tensor | None:
    scales = [recipe.crop_scale for recipe in recipes if recipe.crop_scale is not None]
    if not scales:
        return None
    if recipes[0].resize_first:
        grids = [short_side(h, w, size) for h, w in zip(heights.tolist(), widths.tolist(), strict=True)]
        heights, widths = torch.tensor(grids).T
    views = len(recipes)
    scale = torch.tensor(scales, dtype=torch.float64).repeat_interleave(len(heights), 0)
    return draw_boxes(heights.repeat(views), widths.repeat(views), scale, generator, views=views)


@torch.no_grad()
def make_views(
    images: Tensor | list[Tensor], recipes: Sequence[Recipe], spec: InputSpec, generator: torch.Generator
) -> list[Tensor]:
    """Return one view per recipe, float32 (B, 3, spec.size, spec.size) in 0..1 on the images' device.

    `images` is uint8 (B, 3, H, W) or a list of (3, H, W). The recipes agree in whether, and out of what, they crop, and
    in the blur's kernel. All views are computed together, in parts that suit the device's memory.
    """
    assert len({(recipe.crop_scale is None, recipe.resize_first, recipe.blur_kernel) for recipe in recipes}) == 1
    device = images[0].device
    heights, widths = sizes(images)
    drawn = draw(recipes, heights, widths, spec.size, generator)
    rows = torch.arange(len(images)).repeat(len(recipes))
    views = torch.empty(len(rows), 3, spec.size, spec.size, device=device)
    work = partial(_make, recipes=recipes, spec=spec)
    step = max(1, _CPU_PIXELS // spec.size**2)
    if device.type != "cpu":
        step = max(1, _gpu_pixels(device) // max(int((heights * widths).max()), spec.size**2))
    with torch.autocast(device.type, enabled=False):  # half precision would show in the pixels
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            work(images, rows[part], drawn[part], out=views[part])
    made = zip(views.view(len(recipes), len(images), *views.shape[1:]), recipes, strict=True)
    return [erase(view, recipe.erasing, spec.mean, generator) if recipe.erasing else view for view, recipe in made]


def _make(
    images: Tensor | list[Tensor], rows: Tensor, drawn: Draw, out: Tensor, recipes: Sequence[Recipe], spec: InputSpec
) -> None:
    """Make the views `drawn` of the images at `rows`, in an order that lets the jitter work on slices."""
    kernel_size = recipes[0].blur_kernel or augment.blur_kernel_size(
        max(recipe.blur_sigma[1] for recipe in recipes), spec.size
    )
    grid_size = spec.size if recipes[0].resize_first else None
    order = augment.jitter_order(drawn.jitter, drawn.order)
    drawn = drawn[order]
    pixels = _cropped(_take(images, rows[order]), drawn, spec, grid_size)
    step = max(1, _CACHED_PIXELS // spec.size**2) if out.device.type == "cpu" else len(rows)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        apply(pixels[part], drawn[part], kernel_size)
    place = send(order.argsort(), out.device)
    for target, plane in zip(out.unbind(1), pixels.unbind(1), strict=True):
        target.copy_(plane.index_select(0, place))


def in_parts(pixels: Tensor) -> Iterator[slice]:
    """Yield the rows of images (N, 3, H, W) that are treated together."""
    most = _CACHED_PIXELS if pixels.device.type == "cpu" else _gpu_pixels(pixels.device)
    step = max(1, most // pixels[0, 0].numel())
    yield from (slice(start, start + step) for start in range(0, len(pixels), step))


def _gpu_pixels(device: torch.device) -> int:
    if device.type != "cuda":
        return _GPU_PIXELS
    return min(_GPU_PIXELS, torch.cuda.get_device_properties(device).total_memory // _GPU_SHARE)


def sizes(images: Tensor | list[Tensor]) -> Tensor:
    """Return int64 (2, B): heights and widths."""
    if isinstance(images, Tensor):
        return torch.tensor(images.shape[-2:])[:, None].expand(2, len(images))
    return torch.tensor([image.shape[-2:] for image in images]).T


def _take(images: Tensor | list[Tensor], rows: Tensor) -> Tensor | list[Tensor]:
    if isinstance(images, Tensor):
        return images.index_select(0, send(rows, images.device))
    return [images[row] for row in rows.tolist()]


def _cropped(images: Tensor | list[Tensor], drawn: Draw, spec: InputSpec, grid_size: int | None) -> Tensor:
    if drawn.boxes is None:
        return augment.where(preprocess(images, spec), drawn.flip, augment.flip)
    return crop(images, drawn.boxes, spec.size, spec.interpolation, grid_size, drawn.flip)


def apply(pixels: Tensor, drawn: Draw, kernel_size: int) -> None:
    """Do in place what was drawn to cropped and mirrored images, float (N, 3, size, size) on 0-1, jittered ones first.

    The jittered ones are in the order of `augment.jitter_order`.
    """
    moved = (drawn.angle != 0) | (drawn.translate != 0).any(1) | (drawn.scale != 1)
    augment.where(pixels, moved, augment.affine, drawn.angle, drawn.translate, drawn.scale)
    jittered = int(drawn.jitter.sum())
    augment.color_jitter(pixels[:jittered], drawn.factors[:jittered], drawn.order[:jittered])
    augment.where(pixels, drawn.gray, augment.grayscale)
    augment.gaussian_blur(pixels, drawn.blur, drawn.sigma, kernel_size)
    augment.where(pixels, drawn.solarize, augment.solarize)
