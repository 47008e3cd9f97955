"""What the classes of a folder tree are called: as their folders, or in words where these are ImageNet's numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dinodiet.errors import printable

WNID = re.compile(r"n\d{8}")


def class_names(folders: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each class folder, in their order.

    Where all folders are wnids of ImageNet-1k (the set itself, or a part of it as Imagenette), the names are those of
    torchvision's table, which is in the order of the sorted wnids.
    """
    if folders and all(WNID.fullmatch(name) for name in folders):
        known = _imagenet()
        if all(name in known for name in folders):
            return tuple(known[name] for name in folders)
    return tuple(map(printable, folders))


def _imagenet() -> dict[str, str]:
    """Return the 1,000 names by wnid."""
    from timm.data.imagenet_info import ImageNetInfo  # noqa: PLC0415 - the import takes a second, others do without
    from torchvision.models import ResNet50_Weights  # noqa: PLC0415 - as above

    info: Any = ImageNetInfo("imagenet-1k")
    return dict(zip(info.label_names(), ResNet50_Weights.DEFAULT.meta["categories"], strict=True))
