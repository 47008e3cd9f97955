import torch
from sklearn.datasets import load_digits

from dinodiet.data.dataset import open_dataset
from dinodiet.data.images import Subset, fetch
from dinodiet.data.sources.digits import digits


def test_splits_are_stratified_disjoint_and_complete() -> None:
    data = open_dataset(digits())
    splits = (data.train, data.val, data.test)
    assert [len(split) for split in splits] == [1000, 200, 597]
    positions = [position for split in splits if isinstance(split, Subset) for position in split.positions.tolist()]
    assert sorted(positions) == list(range(1797))
    whole = torch.from_numpy(load_digits().target).bincount()
    for split in splits:
        assert split.labels is not None
        share = whole * len(split) / 1797
        assert (split.labels.bincount() - share).abs().max() < 1.5


def test_pixels_are_scaled_to_eight_bits() -> None:
    test = digits().test
    assert isinstance(test, Subset)
    original = torch.from_numpy(load_digits().images)[test.positions]
    images = fetch(test, range(len(test)))
    assert isinstance(images, torch.Tensor)
    assert images.shape == (597, 3, 8, 8)
    assert images.max() == 255
    assert (images[:, 0] / 255 - original / 16).abs().max() < 0.5 / 255 + 1e-6


def test_labels_are_those_of_the_images() -> None:
    val = digits().val
    assert isinstance(val, Subset)
    assert val.labels is not None
    assert val.labels.tolist() == load_digits().target[val.positions.numpy()].tolist()


def test_is_always_the_same() -> None:
    test = digits().test
    assert isinstance(test, Subset)
    assert test.positions[:5].tolist() == [1, 2, 4, 5, 6]
    assert test.fingerprint() == digits().test.fingerprint()
