"""Groups of a view's settings, as YAML nodes; what is None is as the views have it by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dinodiet.data.views.limits import checked


@dataclass(frozen=True)
class Affine:
    """An affine change: at most so many degrees, a shift by a part of the side, a change of size (0.1: 0.9-1.1)."""

    degrees: float | None = None
    translate: float | None = None
    scale: float | None = None


@dataclass(frozen=True)
class Colour:
    """What happens to colours.

    `jitter` is the strength for brightness, contrast, saturation and hue; the others are probabilities. `solarize` of
    `MultiCrop` is one for the first global view, the other global views, and the local ones.
    """

    jitter: list[float] | None = None
    jitter_probability: float | None = None
    gray: float | None = None
    solarize: float | list[float] | None = None


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur: its probability (of `MultiCrop` three, as `Colour.solarize`) and range of sigma in pixels.

    Without a range sigma is 0.1-2.0, in proportion less for views under 96 pixels, where the published range would
    leave nothing to see.
    """

    probability: float | list[float] | None = None
    sigma: list[float] | None = None


def recipe_fields(
    affine: Affine | None = None, colour: Colour | None = None, blur: Blur | None = None, *, kinds: int = 1
) -> dict[str, Any]:
    """Return what is given, checked, by the names of `Recipe`'s fields; `kinds` of views have a probability each.

    Raises:
        UserError: a value is out of its range.
    """
    affine, colour, blur = affine or Affine(), colour or Colour(), blur or Blur()
    each = {"colour.solarize": kinds, "blur.probability": kinds}
    settings = {
        "affine.degrees": ("affine_degrees", affine.degrees),
        "affine.translate": ("affine_translate", affine.translate),
        "affine.scale": ("affine_scale", affine.scale),
        "colour.jitter": ("jitter", colour.jitter),
        "colour.jitter_probability": ("jitter_probability", colour.jitter_probability),
        "colour.gray": ("gray", colour.gray),
        "colour.solarize": ("solarize", colour.solarize),
        "blur.probability": ("blur", blur.probability),
        "blur.sigma": ("blur_sigma", blur.sigma),
    }
    return {
        field: checked(key, value, count=each.get(key, 1))
        for key, (field, value) in settings.items()
        if value is not None
    }
