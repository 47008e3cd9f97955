import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from dinodiet.data.labelled import classes_without_images, fraction, nested_per_class
from dinodiet.errors import UserError
from dinodiet.types import DataSpec

EVEN = torch.arange(1000) % 10
LONG_TAIL = torch.from_numpy(np.random.RandomState(3).choice(12, 997, p=np.arange(1, 13) ** 2 / 650))
RARE = torch.tensor([0] * 955 + [c for c in range(1, 10) for _ in range(5)])  # nine classes owed half an image at 0.1


def counts(labels: Tensor, chosen: Tensor) -> list[int]:
    return torch.bincount(labels[chosen], minlength=int(labels.max()) + 1).tolist()


def test_exactly_so_many_of_each_class() -> None:
    for per_class in (1, 3, 100):
        assert counts(EVEN, nested_per_class(EVEN, per_class, 0)) == [per_class] * 10


def test_a_class_that_does_not_occur_is_none() -> None:
    labels = torch.tensor([0, 0, 2, 2])
    assert counts(labels, nested_per_class(labels, 1, 0)) == [1, 0, 1]


def test_a_class_with_too_few_is_named() -> None:
    labels = torch.tensor([0] * 5 + [1] * 2 + [2] * 9)
    with pytest.raises(
        UserError, match="labels_per_class: 3, but of the training images class 'cat' has 2; choose 1 to 2"
    ):
        nested_per_class(labels, 3, 0, ["dog", "cat", "bird"])
    with pytest.raises(UserError, match="budget: 6, but of the training images class 0 has 5, 1 has 2; choose"):
        nested_per_class(labels, 6, 0, key="budget")


def test_several_labels_an_image_have_no_classes() -> None:
    labels = torch.eye(6, dtype=torch.int64)
    with pytest.raises(UserError, match="labels_per_class: 1, but the images are multi-label"):
        nested_per_class(labels, 1, 0)
    assert len(fraction(labels, 0.5, 0)) == 3


@pytest.mark.parametrize("labels", [EVEN, LONG_TAIL, RARE], ids=["even", "long tail", "rare"])
@pytest.mark.parametrize("share", [0.004, 0.1, 0.3, 0.77, 1.0])
def test_a_fraction_has_of_each_class_its_share_to_within_one(labels: Tensor, share: float) -> None:
    chosen = fraction(labels, share, 0)
    assert len(chosen) == round(share * len(labels))
    off = [
        abs(n - len(chosen) * size / len(labels))
        for n, size in zip(counts(labels, chosen), labels.bincount(), strict=True)
    ]
    assert max(off) < 1


def test_larger_amounts_contain_smaller_ones() -> None:
    shares = [set(fraction(LONG_TAIL, share, 5).tolist()) for share in (0.01, 0.1, 0.11, 0.3, 0.9, 1.0)]
    numbers = [set(nested_per_class(EVEN, n, 5).tolist()) for n in (1, 2, 10, 99)]
    for sets in (shares, numbers):
        assert all(small < large for small, large in itertools.pairwise(sets))


def test_draws_follow_the_seed() -> None:
    assert fraction(EVEN, 0.1, 1).equal(fraction(EVEN, 0.1, 1))
    assert not fraction(EVEN, 0.1, 1).equal(fraction(EVEN, 0.1, 2))
    assert not nested_per_class(EVEN, 5, 1).equal(nested_per_class(EVEN, 5, 2))


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"label_fraction: 0\.0001 of 1000 training images are 0; choose above 0"):
        fraction(EVEN, 0.0001, 0)


def test_classes_without_an_image_are_named() -> None:
    spec = DataSpec("rare", 1000, 10, classes=tuple("abcdefghij"))
    missing = classes_without_images(RARE[fraction(RARE, 0.1, 0)], spec)
    assert 0 < len(missing) < 9 and "'a'" not in missing
    assert classes_without_images(EVEN, spec) == []
    assert classes_without_images(torch.eye(3, dtype=torch.int64), spec) == []
