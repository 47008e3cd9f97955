"""Augmented views of a batch."""

from dinodiet.data.views.settings import Affine, Blur, Colour
from dinodiet.data.views.views import MultiCrop, SingleView

__all__ = ["Affine", "Blur", "Colour", "MultiCrop", "SingleView"]
