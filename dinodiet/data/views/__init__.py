"""Augmented views of a batch."""

from dinodiet.data.views.views import MultiCrop, SingleView

__all__ = ["MultiCrop", "SingleView"]
