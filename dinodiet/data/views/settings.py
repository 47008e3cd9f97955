"""Groups of a view's settings, as YAML nodes; what is None is as the views have it by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from dinodiet.config.ranges import BelowOne, Fraction, Items, Range
from dinodiet.errors import UserError

Sigma = Annotated[float, Range(1e-3, 100)]  # pixels
Strength = Annotated[float, Range(0, 10)]
Hue = Annotated[float, Range(0, 0.5)]  # of the circle
Scale = Annotated[list[float], Items((Fraction[float], Fraction[float]), rising=True)]


@dataclass(frozen=True)
class Affine:
    """An affine change: at most so many degrees, a shift by a part of the side, a change of size (0.1: 0.9-1.1)."""

    degrees: Annotated[float | None, Range(0, 180)] = None
    translate: Fraction[float | None] = None
    scale: BelowOne[float | None] = None


@dataclass(frozen=True)
class Colour:
    """What happens to colours.

    `jitter` is the strength for brightness, contrast, saturation and hue; the others are probabilities. `solarize` of
    `MultiCrop` is one for the first global view, the other global views, and the local ones. `erasing` is that a box of
    a view becomes the mean colour, which is 0 once it is normalised (`views.erasing`).
    """

    jitter: Annotated[list[float], Items((Strength, Strength, Strength, Hue))] | None = None
    jitter_probability: Fraction[float | None] = None
    gray: Fraction[float | None] = None
    solarize: Fraction[float | list[float] | None] = None
    erasing: Fraction[float] = 0.0


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur: its probability (of `MultiCrop` three, as `Colour.solarize`) and range of sigma in pixels.

    `kernel` cuts it to so many pixels, an odd number, as some published recipes do: 3 at 224 pixels is a faint blur.
    None: all of it that counts.

    Without a range sigma is 0.1-2.0, in proportion less for views under 96 pixels, where the published range would
    leave nothing to see.
    """

    probability: Fraction[float | list[float] | None] = None
    sigma: Annotated[list[float], Items((Sigma, Sigma), rising=True)] | None = None
    kernel: Annotated[int | None, Range(1, 255)] = None

    def __post_init__(self) -> None:
        if self.kernel is not None and self.kernel % 2 == 0:
            raise UserError(f"kernel: {self.kernel}; must be odd, as {self.kernel + 1}")


def recipe_fields(
    affine: Affine | None = None, colour: Colour | None = None, blur: Blur | None = None, *, kinds: int = 1
) -> dict[str, Any]:
    """Return what is given by the names of `Recipe`'s fields, lists as tuples.

    Raises:
        UserError: `kinds` of views do not have a probability each.
    """
    affine, colour, blur = affine or Affine(), colour or Colour(), blur or Blur()
    for key, value in {"colour.solarize": colour.solarize, "blur.probability": blur.probability}.items():
        _check_count(key, value, kinds)
    given = {
        "affine_degrees": affine.degrees,
        "affine_translate": affine.translate,
        "affine_scale": affine.scale,
        "jitter": colour.jitter,
        "jitter_probability": colour.jitter_probability,
        "gray": colour.gray,
        "solarize": colour.solarize,
        "erasing": colour.erasing or None,
        "blur": blur.probability,
        "blur_sigma": blur.sigma,
        "blur_kernel": blur.kernel,
    }
    return {field: frozen(value) for field, value in given.items() if value is not None}


def frozen(value: Any) -> Any:
    """Return a list as a tuple, and anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _check_count(key: str, value: float | list[float] | None, kinds: int) -> None:
    count = len(value) if isinstance(value, list) else 1
    if value is not None and (count != kinds or (kinds == 1) == isinstance(value, list)):
        what = "a number" if kinds == 1 else f"a list of {kinds} numbers"
        raise UserError(f"{key}: {value}; must be {what} from 0 to 1, one a kind of view")
