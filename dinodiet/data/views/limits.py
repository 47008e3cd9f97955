"""What values the settings of the views may have."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from dinodiet.errors import UserError
from dinodiet.types import InputSpec

Range = tuple[float, float]

_UNIT: Range = (0, 1)
_RANGES: dict[str, list[Range]] = {  # of what is not numbers from 0 to 1
    "crop_scale": [_UNIT] * 2,
    "global_scale": [_UNIT] * 2,
    "local_scale": [_UNIT] * 2,
    "affine.degrees": [(0, 180)],
    "colour.jitter": [(0, inf), (0, inf), (0, inf), (0, 0.5)],
    "blur.sigma": [(0.001, inf)] * 2,
}
_ASCENDING = ("crop_scale", "global_scale", "local_scale", "blur.sigma")


def checked(key: str, value: float | Sequence[float], count: int = 1) -> Any:
    """Return a setting, a list as a tuple; `count` says how many probabilities it has.

    Raises:
        UserError: a number is out of its range, or a list has another length than it should.
    """
    ranges = _RANGES.get(key, [_UNIT] * count)
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    fits = len(values) == len(ranges) and all(low <= v <= high for v, (low, high) in zip(values, ranges, strict=True))
    if not fits or (key in _ASCENDING and values[0] > values[1]):
        what = "a number" if len(ranges) == 1 else f"{len(ranges)} numbers"
        order = ", the smaller first" if key in _ASCENDING else ""
        bounds = ", ".join(f"{low:g} to {high:g}" for low, high in (ranges if len(set(ranges)) > 1 else ranges[:1]))
        raise UserError(f"{key}: {value}; give {what} from {bounds}{order}")
    return values if isinstance(value, Sequence) else value


def check_size(key: str, size: int, input: InputSpec) -> None:
    """Refuse views that the backbone cannot take, or that are larger than what it is evaluated on.

    Raises:
        UserError: naming the key, the size, and the nearest sizes that would do.
    """
    divisor = input.divisor
    if size < 1 or size % divisor:
        below = size // divisor * divisor
        near = " or ".join(str(choice) for choice in (below, below + divisor) if choice > 0)
        raise UserError(f"{key}: {size} pixels is no multiple of {divisor}, the backbone's divisor; choose {near}")
    if size > input.size:
        raise UserError(
            f"{key}: {size} pixels is more than the backbone's input of {input.size}; "
            f"choose at most {input.size}, or have the images larger (dataset.image_size)"
        )
