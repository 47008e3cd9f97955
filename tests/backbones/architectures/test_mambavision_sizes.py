import re

import pytest
import torch

from dinodiet.backbones.architectures.mambavision import MambaVision
from dinodiet.backbones.architectures.mambavision_sizes import SIZES
from tests.backbones.architectures.mambavision_small import SHAPES, build


def expanded(size: str) -> dict[str, tuple[int, ...]]:
    """Return all keys and shapes of a published state dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    for key, entry in SHAPES[size]["keys"].items():
        kind = re.search(r"\{(\w+)\}", key)
        stage = re.match(r"levels\.(\d)", key)
        names = [key]
        if kind and stage:
            kinds = SHAPES[size]["blocks"][int(stage[1])]
            names = [key.replace(kind[0], str(block)) for block, found in enumerate(kinds) if found == kind[1]]
        assert len(names) == entry["count"]
        shapes |= {name: tuple(entry["shape"]) for name in names}
    return shapes


@pytest.mark.parametrize("size", SIZES)
def test_parameters_keys_and_shapes_of_every_size(size: str) -> None:
    with torch.device("meta"):
        model = MambaVision(SIZES[size].architecture, num_classes=1000)
        backbone = build(size=size)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expanded(size)
    assert sum(p.numel() for p in model.parameters()) == SHAPES[size]["num_params"]
    assert sum(p.numel() for p in backbone.parameters()) == SHAPES[size]["num_params_backbone"]
    assert backbone.embed_dim == SHAPES[size]["feature_dim"]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_keeps_to_its_release(size: str) -> None:
    released, ours = SHAPES[size], SIZES[size]
    for name, value in vars(ours.architecture).items():
        found = released["config"][name]
        assert (tuple(found) if isinstance(found, list) else found) == value, name
    expected = f"https://huggingface.co/nvidia/{ours.repository}/resolve/main/{ours.file}.pth.tar"
    assert released["checkpoint_url"] == expected
    assert released["input"]["crop_pct"] == ours.crop_fraction
    assert released["input"]["input_size"] == [3, ours.resolution, ours.resolution]
    with torch.device("meta"):
        input_spec = build(size=size, image_size=None).input
    assert list(input_spec.mean) == released["input"]["mean"]
    assert list(input_spec.std) == released["input"]["std"]
    assert input_spec.interpolation == released["input"]["interpolation"]


def test_every_published_size_is_there() -> None:
    assert list(SIZES) == list(SHAPES)


# --- parts ------------------------------------------------------------------------------------------------------------
