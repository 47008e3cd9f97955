import torch
from torchvision.transforms.v2 import functional as tvf

from dinodiet.backbones.normalize import Normalize
from dinodiet.types import InputSpec
from tests.backbones.small import build_small

SPEC = InputSpec(8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def images(side: int = 8) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_it_is_torchvisions_and_leaves_the_images_as_they_are() -> None:
    given = images()
    assert Normalize(SPEC)(given).equal(tvf.normalize(given, list(SPEC.mean), list(SPEC.std)))
    assert given.equal(images())


def test_autocast_and_half_precision_do_not_round_it() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = Normalize(SPEC)(images())
    assert found.dtype == torch.float32
    assert found.equal(Normalize(SPEC)(images()))
    assert Normalize(SPEC)(images().bfloat16()).dtype == torch.float32


def test_it_keeps_the_memory_layout() -> None:
    last = images().contiguous(memory_format=torch.channels_last)
    assert Normalize(SPEC)(last).is_contiguous(memory_format=torch.channels_last)


def test_a_backbone_sees_normalised_images_and_keeps_none_of_it_in_its_state() -> None:
    backbone = build_small("resnet18").eval()
    mean, std = list(backbone.input.mean), list(backbone.input.std)
    x = images(64)
    torch.testing.assert_close(backbone(x), backbone.model(tvf.normalize(x, mean, std)))
    assert {key.partition(".")[0] for key in backbone.state_dict()} == {"model"}
