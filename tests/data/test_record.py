from dataclasses import asdict
from typing import Literal

from dinodiet.data.dataset import open_dataset
from dinodiet.data.record import dataset_record
from dinodiet.data.sources.digits import digits
from dinodiet.types import InputSpec

INPUT = InputSpec(8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def test_sizes_and_names_of_a_dataset() -> None:
    assert dataset_record(open_dataset(digits(), limit=300), INPUT) == {
        "dataset": "digits",
        "images": {"pretext": 300, "train": 300, "val": 200, "test": 597},
        "num_labels": 10,
        "multilabel": False,
        "classes": tuple("0123456789"),
        "subset": {"rule": "random", "images": 300, "available": 1000, "seed": 0, "uses_labels": False},
        "labelled": None,
        "normalization": {"origin": "checkpoint", "mean": INPUT.mean, "std": INPUT.std},
    }


def test_a_subset_says_whether_labels_chose_it() -> None:
    assert dataset_record(open_dataset(digits()), INPUT)["subset"] is None
    rules: dict[bool | Literal["proportional"], str] = {True: "balanced", "proportional": "proportional"}
    for balanced, rule in rules.items():
        found = dataset_record(open_dataset(digits(), limit=50, balanced=balanced, split_seed=3), INPUT)["subset"]
        assert found == {"rule": rule, "images": 50, "available": 1000, "seed": 3, "uses_labels": True}


def test_labels_that_are_kept_are_counted() -> None:
    found = dataset_record(open_dataset(digits(), labels_per_class=3, split_seed=2), INPUT)
    assert found["labelled"] == {"rule": "balanced", "images": 30, "available": 1000, "seed": 2, "uses_labels": True}
    assert (found["images"]["pretext"], found["images"]["train"]) == (1000, 30)


def test_numbers_of_the_dataset_say_where_they_are_from() -> None:
    data = open_dataset(digits(), normalization="dataset", split_seed=5)
    assert data.spec.statistics is not None
    found = dataset_record(data, InputSpec(8, *data.spec.normalization((0, 0, 0), (1, 1, 1))))["normalization"]
    assert found == asdict(data.spec.statistics)
    assert found["origin"] == "computed from 1,000 of 1,000 training images, seed 5"
