"""What an interpolation in YAML may call, such as `${global_area:${.crops}}`. Imports no torch."""

from __future__ import annotations

import re

from omegaconf import OmegaConf


def global_area(crops: str | int) -> list[float]:
    """Return the area of global crops, as parts of the image, that suits the form of `MultiCrop`'s `crops`.

    With local crops beside them 0.4 to 1, and several global ones alone 0.14 to 1, as the published code of DINO (Caron
    et al. 2021, arXiv:2104.14294) has and recommends it; a single view is the whole image. What is no form of `crops`
    gets any of them: the views refuse it.
    """
    if "+" in str(crops):
        return [0.4, 1.0]
    return [1.0, 1.0] if re.match(r"\s*1\s*(x|$)", str(crops)) else [0.14, 1.0]


def register() -> None:
    """Tell OmegaConf of the functions."""
    OmegaConf.register_new_resolver("global_area", global_area, replace=True)
