"""The views of a step under the names that a picture of them has."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dinodiet.types import ShownView


def named(
    views: Sequence[Tensor], num_global: int, *, who: str = "", local: str = "", hidden: Sequence[Tensor] | None = None
) -> list[ShownView]:
    """Return views, global ones first, each under its kind and number, followed by who sees it.

    Args:
        views: of B images, each (B, 3, s, s).
        num_global: how many of them are global; where all are, they are simply views.
        who: who sees the global views.
        local: who sees the local ones.
        hidden: of each view the patches that are not seen, bool (B, rows, columns); None: all are.
    """
    kind = "view" if num_global == len(views) and hidden is None else "global"
    names = [f"{kind} {number + 1}{who}" for number in range(num_global)]
    names += [f"local {number + 1}{local}" for number in range(len(views) - num_global)]
    covers = [None] * len(views) if hidden is None else hidden
    return [ShownView(*one) for one in zip(names, views, covers, strict=True)]
