"""Whether a backbone takes the views that a method gives it, and the method their number: seen before the training."""

from __future__ import annotations

import torch

from dinodiet.backbones.without_values import forward_on_meta
from dinodiet.errors import UserError, one_line
from dinodiet.types import Backbone, Views


def check_views(views: Views, backbone: Backbone) -> None:
    """Refuse views of a side that the backbone cannot use, by a forward pass on the meta device.

    Its own side is taken for granted. What only values tell is not seen.

    Raises:
        UserError: the backbone makes no embeddings of views of a side.
    """
    own = backbone.input.size
    for side in sorted(set(views.sides) - {own}):
        fault = _fault(backbone, side)
        if fault is not None and _fault(backbone, own) is None:
            raise UserError(
                f"views: the backbone takes no views of {side} pixels ({fault}); choose others, such as its own "
                f"{own}, or another dataset.image_size"
            )


def check_pairs(views: Views) -> None:
    """Refuse views that are not two of one size.

    Raises:
        UserError: there are others.
    """
    sides = sides_of(views)
    if len(sides) != 2 or sides[0] != sides[1]:
        raise UserError(
            f"views: the method compares two views of one size, not {sides} pixels; set method.views.crops=2"
        )


def sides_of(views: Views) -> list[int]:
    """Return the sides, in pixels, of all views that are made of an image."""
    with torch.device("cpu"):
        made = views(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.Generator())
    return [view.shape[-1] for view in made]


def _fault(backbone: Backbone, side: int) -> str | None:
    try:
        forward_on_meta(backbone, side)  # type: ignore[arg-type]
    except NotImplementedError:  # a value was asked for
        return None
    except Exception as error:  # models refuse in their own ways
        return one_line(error)
    return None
