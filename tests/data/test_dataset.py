from typing import Any

import pytest
import torch
from torch import Tensor

from dinodiet.data.dataset import RawSplits, native_size, open_dataset
from dinodiet.data.images import FileImages, Subset, TensorImages
from dinodiet.errors import UserError
from dinodiet.types import Images, Selection


def images(count: int, num_labels: int = 4, size: int = 6) -> TensorImages:
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator)
    return TensorImages(pixels, torch.arange(count) % num_labels)


def unlabelled(count: int) -> TensorImages:
    return TensorImages(images(count).images)


def raw(**changes: Any) -> RawSplits:
    return RawSplits(**{"name": "small", "train": images(100), "test": images(20), "num_labels": 4, **changes})


def positions(split: Images) -> set[int]:
    assert isinstance(split, Subset)
    return set(split.positions.tolist())


class TestSplits:
    def test_validation_is_held_out_from_train(self) -> None:
        source = raw()
        data = open_dataset(source, val_fraction=0.2)
        assert positions(data.train) | positions(data.val) == set(range(100))
        assert len(data.val) == 20
        assert not positions(data.train) & positions(data.val)
        assert data.test is source.test
        assert data.pretext is data.train

    def test_official_validation_is_kept(self) -> None:
        source = raw(val=images(30))
        data = open_dataset(source)
        assert (data.train, data.val) == (source.train, source.val)

    def test_limit_takes_one_subset_for_pretext_and_probe(self) -> None:
        data = open_dataset(raw(), limit=10)
        assert len(data.train) == 10
        assert data.pretext is data.train
        assert data.spec.num_images == 10

    def test_what_the_limit_leaves_of_train_is_unseen(self) -> None:
        data = open_dataset(raw(), limit=10)
        assert data.unseen is not None and not positions(data.unseen) & positions(data.train)
        rest = positions(data.train) | positions(data.unseen)
        assert rest == set(range(100)) - positions(data.val) and len(data.unseen) == 80
        assert open_dataset(raw()).unseen is open_dataset(raw(), limit=90).unseen is None

    def test_a_pretext_split_leaves_all_of_train_unseen(self) -> None:
        for limit in (None, 20):
            data = open_dataset(raw(pretext=unlabelled(50)), limit=limit)
            assert data.unseen is data.train and len(data.train) == 90
        few = open_dataset(raw(pretext=unlabelled(50)), labels_per_class=2)
        assert few.unseen is few.train and len(few.train) == 8
        assert open_dataset(raw(), limit=40, labels_per_class=2).unseen is None  # the others have no labels to use

    def test_limit_leaves_validation_and_test_as_they_are(self) -> None:
        whole, part = open_dataset(raw()), open_dataset(raw(), limit=10)
        assert positions(part.val) == positions(whole.val)
        assert positions(part.train) < positions(whole.train)
        assert len(part.test) == 20

    def test_balanced_limit(self) -> None:
        labels = open_dataset(raw(), limit=12, balanced=True).train.labels
        assert labels is not None
        assert labels.bincount().tolist() == [3, 3, 3, 3]

    def test_proportional_limit(self) -> None:
        source = raw(train=labelled(torch.tensor([0] * 72 + [1] * 19 + [2] * 8 + [3])), val=images(30))
        data = open_dataset(source, limit=10, balanced="proportional")
        assert data.train.labels is not None
        assert data.train.labels.bincount().tolist() == [7, 1, 1, 1]
        assert data.selection == Selection("proportional", 10, 100, 0)

    def test_split_seed_draws_anew(self) -> None:
        one, two = open_dataset(raw(), limit=10), open_dataset(raw(), limit=10, split_seed=1)
        assert positions(one.val) != positions(two.val)
        assert positions(one.train) != positions(two.train)

    def test_split_seed_draws_the_limit_too(self) -> None:
        one, two = (open_dataset(raw(val=images(30)), limit=10, split_seed=seed) for seed in (0, 1))
        assert positions(one.train) != positions(two.train)

    def test_separate_pretext_is_limited_alone(self) -> None:
        data = open_dataset(raw(pretext=unlabelled(500)), limit=200)
        assert len(data.pretext) == data.spec.num_images == 200
        assert not data.spec.pretext_labelled
        assert len(data.train) == 90


class TestSpec:
    def test_says_what_there_is(self) -> None:
        spec = open_dataset(raw(), image_size=32).spec
        assert (spec.name, spec.num_images, spec.num_labels) == ("small", 90, 4)
        assert (spec.multilabel, spec.pretext_labelled) == (False, True)
        assert (spec.image_size, spec.native_size) == (32, 6)

    def test_native_size_is_none_where_sizes_differ(self) -> None:
        wide = TensorImages(torch.zeros(2, 1, 4, 6, dtype=torch.uint8))
        assert native_size([images(2), Subset(images(3), torch.tensor([0]))]) == 6
        assert native_size([images(2), images(2, size=8)]) is None
        assert native_size([wide]) is None
        assert native_size([FileImages([])]) is None

    def test_multilabel(self) -> None:
        labels = torch.zeros(50, 14, dtype=torch.int64)
        labels[::3, 2] = 1
        split = TensorImages(images(50).images, labels)
        data = open_dataset(raw(train=split, test=split, num_labels=14, multilabel=True), limit=30)
        assert data.spec.multilabel
        assert data.train.labels is not None
        assert data.train.labels.shape == (30, 14)


def labelled(labels: Tensor) -> TensorImages:
    return TensorImages(images(len(labels)).images, labels)


def flat(count: int) -> TensorImages:
    return TensorImages(torch.full((count, 1, 2, 2), 9, dtype=torch.uint8), torch.arange(count) % 4)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({}, {"limit": 91}, "^limit: 91; 90 images"),
        ({}, {"limit": 0}, "limit: 0"),
        ({"pretext": unlabelled(50)}, {"limit": 5, "balanced": True}, "balanced: true"),
        ({"pretext": unlabelled(50)}, {"limit": 5, "balanced": "proportional"}, "balanced: proportional, but"),
        ({}, {"limit": 3, "balanced": "proportional"}, "^limit: 3, but .* each of 4 classes; choose 4 to 90"),
        ({}, {"normalization": {"mean": [0.5] * 3}}, "^normalization: .*; give mean and std, each of three numbers"),
        ({}, {"normalization": {"mean": [0.5] * 3, "std": [0.5] * 2}}, "^normalization: .* each of three numbers"),
        ({}, {"normalization": {"mean": [127.0] * 3, "std": [0.5] * 3}}, r"^normalization: .* in 0\.\.1"),
        ({}, {"normalization": {"mean": [0.5] * 3, "std": [0.0] * 3}}, "^normalization: .* std is above 0"),
        ({"train": flat(100)}, {"normalization": "dataset"}, "^normalization: dataset, but all pixels of a channel"),
        ({"num_labels": 3}, {}, "split train: labels from 0 to 3, expected 0 to 2"),
        ({"test": labelled(torch.tensor([-1, 0]))}, {}, "split test: labels from -1 to 0"),
        ({"val": labelled(torch.tensor([0.0, 1.0]))}, {}, "split val: labels are torch.float32"),
        ({"test": unlabelled(5)}, {}, "split test: no labels"),
        ({"test": images(0)}, {}, "split test: no images"),
        ({"pretext": images(0)}, {}, "split pretext: no images"),
        ({"train": labelled(torch.zeros(9, dtype=torch.int64))}, {}, "8 training images .* one class"),
        ({"multilabel": True}, {}, r"expected torch.int64 \(100, 4\)"),
    ],
)
def test_mistakes_are_named(source: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_dataset(raw(**source), **options)


class TestLabels:
    def test_so_many_of_each_class_keep_their_labels(self) -> None:
        data = open_dataset(raw(), labels_per_class=3)
        assert data.train.labels is not None
        assert data.train.labels.bincount().tolist() == [3] * 4
        assert data.labelled == Selection("balanced", 12, 90, 0)

    def test_pretext_val_and_test_are_unchanged_but_pretext_has_no_labels_to_use(self) -> None:
        whole, part = open_dataset(raw()), open_dataset(raw(), label_fraction=0.1)
        assert positions(part.pretext) == positions(whole.pretext) > positions(part.train)
        assert positions(part.val) == positions(whole.val)
        assert part.test.labels is not None and len(part.test) == 20
        assert part.spec.num_images == 90
        assert (whole.spec.pretext_labelled, part.spec.pretext_labelled) == (True, False)

    def test_larger_amounts_of_a_seed_hold_smaller_ones(self) -> None:
        few, more, other = (
            positions(open_dataset(raw(), label_fraction=part, split_seed=seed).train)
            for part, seed in ((0.1, 0), (0.3, 0), (0.1, 1))
        )
        assert few < more
        assert (len(few), len(more)) == (9, 27)
        assert other != few

    def test_of_a_limited_set_a_part_keeps_its_labels(self) -> None:
        limited, both = open_dataset(raw(), limit=40), open_dataset(raw(), limit=40, labels_per_class=2)
        assert positions(both.train) < positions(limited.train) == positions(both.pretext)

    def test_a_separate_pretext_set_stays_whole(self) -> None:
        data = open_dataset(raw(pretext=unlabelled(50)), labels_per_class=2)
        assert (len(data.pretext), len(data.train)) == (50, 8)

    @pytest.mark.parametrize(
        ("source", "given", "told"),
        [
            (
                raw(),
                {"label_fraction": 0.1, "labels_per_class": 2},
                "label_fraction: 0.1, and labels_per_class: 2; set one",
            ),
            (raw(classes=("a", "b", "c", "d")), {"labels_per_class": 99}, "labels_per_class: 99, but .* class 'a' has"),
            (raw(), {"label_fraction": 0.0}, "label_fraction: 0 of 90 training images"),
            (raw(), {"label_fraction": 0.01}, "small: all 1 training images are of one class; 2 are needed"),
        ],
        ids=["both", "too few", "none", "one"],
    )
    def test_what_cannot_be_is_refused(self, source: RawSplits, given: dict[str, Any], told: str) -> None:
        with pytest.raises(UserError, match=told):
            open_dataset(source, **given)
