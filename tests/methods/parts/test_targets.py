import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.methods.parts.targets import IndexTargets
from tests.small import SPEC

INDEX = torch.tensor([5, 0, 99])


def test_an_image_is_its_own_class() -> None:
    targets = IndexTargets(SPEC)
    assert targets.num_classes == SPEC.num_images
    assert torch.equal(targets(INDEX), INDEX)
    assert not targets.state_dict()  # it can be computed again


def test_random_classes_depend_on_the_seed_alone() -> None:
    one, same, other = (IndexTargets(SPEC, num_classes=4, seed=seed).of_index for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert set(one.tolist()) == {0, 1, 2, 3}


def test_more_classes_than_images_are_refused() -> None:
    with pytest.raises(UserError, match=rf"^num_classes: {SPEC.num_images + 1}; there are {SPEC.num_images} images"):
        IndexTargets(SPEC, num_classes=SPEC.num_images + 1)
