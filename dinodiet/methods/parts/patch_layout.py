"""Which backbones have patches that a method can work on."""

from __future__ import annotations

import typing

from dinodiet.errors import NotApplicable
from dinodiet.types import Backbone, Coverable, Maskable, TokenLayout

FAMILIES = "vit, dinov2, dinov3, mae, clip, deit3, eva02"  # of timm, whose patches can be left out and covered


def patch_layout(backbone: Backbone, contract: type[Maskable] | type[Coverable]) -> TokenLayout | None:
    """Return how the tokens of a backbone look that keeps to a contract about patches; None: it does not."""
    if not isinstance(backbone, contract):
        return None
    try:
        layout: TokenLayout = typing.cast("Maskable | Coverable", backbone).token_layout()
    except NotApplicable:
        return None
    return layout if layout.patch else None
