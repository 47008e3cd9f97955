import pytest
import timm
from timm.layers.drop import DropPath

from dinodiet.methods.parts.student import choose_drop_path


def test_drop_path_is_the_students_and_grows_over_the_blocks() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", depth=3, embed_dim=24, num_heads=3, num_classes=0)
    assert choose_drop_path(vit, None) == pytest.approx(0.1)
    rates = [module.drop_prob for module in vit.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.05, 0.05, 0.1, 0.1])
    assert choose_drop_path(vit, 0.3) == pytest.approx(0.3)
    assert choose_drop_path(vit, None) == pytest.approx(0.3)  # what the backbone has is kept
    assert choose_drop_path(vit, 0.0) == 0
