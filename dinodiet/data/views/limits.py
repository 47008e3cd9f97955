"""What sizes views may have."""

from __future__ import annotations

from dinodiet.errors import UserError
from dinodiet.types import InputSpec


def check_size(key: str, size: int, input: InputSpec) -> None:
    """Refuse views that the backbone cannot take, or that are larger than what it is evaluated on.

    Raises:
        UserError: naming the key, the size, and the nearest sizes that would do.
    """
    divisor = input.divisor
    if size != divisor == input.size:
        raise UserError(f"{key}: {size} pixels, but the backbone takes images of {divisor} pixels alone")
    if size < 1 or size % divisor:
        below = size // divisor * divisor
        near = " or ".join(str(choice) for choice in (below, below + divisor) if choice > 0)
        raise UserError(f"{key}: {size} pixels is no multiple of {divisor}, the backbone's divisor; choose {near}")
    if size > input.size:
        raise UserError(
            f"{key}: {size} pixels is more than the backbone's input of {input.size}; "
            f"choose at most {input.size}, or have the images larger (dataset.image_size)"
        )
