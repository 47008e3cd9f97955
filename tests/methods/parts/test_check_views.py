"""Views of a side that the backbone cannot use are refused before anything runs."""

from functools import partial

import pytest

from dinodiet.backbones import timm_backbone
from dinodiet.data.views import MultiCrop, SingleView
from dinodiet.errors import UserError
from dinodiet.methods.diet import DIET
from dinodiet.methods.dino import DINO
from dinodiet.types import DataSpec

DATA = DataSpec("small", num_images=64, num_labels=4, image_size=96)


def backbone(name: str) -> object:
    return timm_backbone(DATA, size="a", names={"a": name}, feature="pooled", weights="none")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "crops", "side"), [("test_convnext", "2+1x16", 16), ("hrnet_w18_small", "2+2", 41)])
def test_small_crops_that_a_model_refuses(name: str, crops: str, side: int) -> None:
    with pytest.raises(UserError, match=rf"^views: the backbone takes no views of {side} pixels \(.+\); choose others"):
        DINO(backbone(name), DATA, views=partial(MultiCrop, crops=crops))  # type: ignore[arg-type]


def test_a_small_view_of_diet_that_a_model_refuses() -> None:
    with pytest.raises(UserError, match="takes no views of 16 pixels"):
        DIET(backbone("test_convnext"), DATA, views=partial(SingleView, size=16))  # type: ignore[arg-type]


def test_crops_that_a_model_takes() -> None:
    DINO(backbone("test_convnext"), DATA, views=partial(MultiCrop, crops="2+2x40"))  # type: ignore[arg-type]
