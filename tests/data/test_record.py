from dinodiet.data.dataset import open_dataset
from dinodiet.data.record import dataset_record
from dinodiet.data.sources.digits import digits


def test_sizes_and_names_of_a_dataset() -> None:
    assert dataset_record(open_dataset(digits(), limit=300)) == {
        "dataset": "digits",
        "images": {"pretext": 300, "train": 300, "val": 200, "test": 597},
        "num_labels": 10,
        "multilabel": False,
        "classes": tuple("0123456789"),
    }
