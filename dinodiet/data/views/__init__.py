"""Augmented views of a batch, made for all its images at once on its device; pixels in 0..1."""

from dinodiet.data.views.settings import Affine, Blur, Colour
from dinodiet.data.views.views import MultiCrop, SingleView

__all__ = ["Affine", "Blur", "Colour", "MultiCrop", "SingleView"]
