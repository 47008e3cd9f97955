import copy

import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from dinodiet.backbones import set_drop_path, set_trainable
from dinodiet.errors import UserError

from .small import build_small

NEWER = ["clip", "siglip2", "swin", "swinv2", "convnextv2", "beit", "eva02", "pe"]


def rates(module: nn.Module) -> list[float]:
    return [part.drop_prob for part in module.modules() if isinstance(part, DropPath)]


def test_the_rate_rises_linearly_over_a_transformers_blocks() -> None:
    backbone = build_small("vit_tiny", drop_path=0.2)
    assert rates(backbone) == pytest.approx([0.1, 0.1, 0.2, 0.2])  # two branches a block, none dropped in the first


@pytest.mark.parametrize(
    "model", ["resnet18", "efficientnet_lite0", "mobilevit_xxs", "dinov3_convnext", "dinov3", *NEWER]
)
def test_every_family_has_it(model: str) -> None:
    found = rates(build_small(model, drop_path=0.3))
    assert found == sorted(found)
    assert max(found) == pytest.approx(0.3)
    assert rates(build_small(model)) == []


def test_a_teacher_can_be_copied_without_it() -> None:
    student = build_small("vit_tiny", drop_path=0.5).train()
    teacher = copy.deepcopy(student)
    set_drop_path(teacher, 0.0)
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(teacher(x), teacher(x))
    assert not torch.equal(student(x), student(x))
    assert teacher.state_dict().keys() == student.state_dict().keys()


def test_setting_it_wakes_no_frozen_block() -> None:
    backbone = build_small("vit_tiny").train()
    set_trainable(backbone, "head_only")
    set_drop_path(backbone, 0.9)
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(backbone(x), backbone(x))


def test_a_model_without_stochastic_depth_says_so() -> None:
    with pytest.raises(UserError, match="no stochastic depth"):
        set_drop_path(nn.Linear(2, 2), 0.1)
