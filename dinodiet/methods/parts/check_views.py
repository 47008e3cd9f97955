"""Whether a backbone takes the views that a method gives it: seen before the training, without arithmetic."""

from __future__ import annotations

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


def _fault(backbone: Backbone, side: int) -> str | None:
    try:
        forward_on_meta(backbone, side)  # type: ignore[arg-type]
    except NotImplementedError:  # a value was asked for
        return None
    except Exception as error:  # models refuse in their own ways
        return one_line(error)
    return None
