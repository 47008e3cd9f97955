import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources.huggingface import TableImages, huggingface_set
from dinodiet.errors import UserError
from tests.data import deep_files, layouts

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("datasets")

NAMES = ["ant", "bee", "cat"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def rows(start: int, count: int) -> list[dict[str, Any]]:
    """Return rows in the hub's form; number = start + place, label = place % 3."""
    return [{"image": {"bytes": layouts.png(start + i), "path": f"{i}.png"}, "label": i % 3} for i in range(count)]


def parquet(path: Path, rows: list[dict[str, Any]], labels: Any = None) -> None:
    """Write rows as the hub does: with a note of the features in the schema, or (`labels` a type) without one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if labels is None:
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
        datasets.Dataset.from_list(rows, features=features).to_parquet(str(path))
    else:
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        pq.write_table(pa.Table.from_pylist(rows, pa.schema([("image", image), ("label", labels)])), path)


def opened(tmp_path: Path, **options: Any) -> Any:
    return huggingface_set(root=str(tmp_path / "cache"), path=str(tmp_path / "set"), **options)


def test_parquet_shards_counts_labels_and_pixels(tmp_path: Path) -> None:
    for shard in range(2):
        parquet(tmp_path / "set/data" / f"train-0000{shard}-of-00002-abc.parquet", rows(600 * shard, 6))
    parquet(tmp_path / "set/data/validation-00000-of-00001.parquet", rows(2000, 4))
    parquet(tmp_path / "set/data/test-00000-of-00001.parquet", rows(3000, 5))
    source = opened(tmp_path, published={"classes": 3, "train": 12, "val": 4, "test": 5})
    assert layouts.splits(source) == {
        "train": ([*range(6), *range(600, 606)], [0, 1, 2] * 4),
        "val": ([2000, 2001, 2002, 2003], [0, 1, 2, 0]),
        "test": ([3000, 3001, 3002, 3003, 3004], [0, 1, 2, 0, 1]),
    }
    assert source.name == "set"
    again = opened(tmp_path)
    assert again.train.fingerprint() == source.train.fingerprint() != source.test.fingerprint()
    copy = pickle.loads(pickle.dumps(source.test))
    assert torch.equal(copy[4], source.test[4])


def test_train_alone_gives_three_disjoint_splits(tmp_path: Path) -> None:
    parquet(tmp_path / "set/default/train/0000.parquet", rows(0, 30))
    data = open_dataset(opened(tmp_path), val_fraction=0.25)
    parts = [layouts.numbers(split) for split in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [18, 6, 6]
    assert sorted(number for part in parts for number in part) == list(range(30))
    for split, part in zip((data.train, data.val, data.test), parts, strict=True):
        assert split.labels is not None
        assert split.labels.tolist() == [number % 3 for number in part]


def test_official_validation_as_test(tmp_path: Path) -> None:
    parquet(tmp_path / "set/train-0.parquet", rows(0, 9))
    parquet(tmp_path / "set/validation-0.parquet", rows(100, 6))
    source = opened(tmp_path, val=None, test="validation")
    assert source.val is None
    assert layouts.numbers(source.test) == [*range(100, 106)]


def test_class_names_as_text(tmp_path: Path) -> None:
    for split, order in (("train", "bee cat ant bee"), ("test", "cat ant")):
        found = [{**row, "label": name} for row, name in zip(rows(0, 4), order.split(), strict=False)]
        parquet(tmp_path / f"set/{split}-0.parquet", found, pa.string())
    assert layouts.splits(opened(tmp_path)) == {"train": ([0, 1, 2, 3], [1, 2, 0, 1]), "test": ([0, 1], [2, 0])}


@pytest.mark.parametrize("form", ["saved", "arrow"])
def test_arrow_files(tmp_path: Path, form: str) -> None:
    parquet(tmp_path / "raw/train-0.parquet", rows(0, 6))
    parquet(tmp_path / "raw/test-0.parquet", rows(50, 3))
    files = {split: str(tmp_path / f"raw/{split}-0.parquet") for split in ("train", "test")}
    tables = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    if form == "saved":
        tables.save_to_disk(str(tmp_path / "set"))
    else:
        (tmp_path / "set").mkdir()
        for split, table in tables.items():
            Path(table.cache_files[0]["filename"]).rename(tmp_path / f"set/{split}-00000-of-00001.arrow")
    found = layouts.splits(opened(tmp_path))
    assert found == {"train": ([*range(6)], [0, 1, 2] * 2), "test": ([50, 51, 52], [0, 1, 2])}


def test_broken_image_is_named_or_skipped(tmp_path: Path) -> None:
    damaged = rows(0, 6)
    damaged[4]["image"]["bytes"] = b"no image"
    parquet(tmp_path / "set/train-0.parquet", damaged)
    parquet(tmp_path / "set/test-0.parquet", rows(50, 3))
    with pytest.raises(UserError, match=r"train, row 4 .4.png.: cannot be read"):
        opened(tmp_path).train[4]
    found = layouts.splits(opened(tmp_path, broken="skip"))
    assert found["train"] == ([0, 1, 2, 3, 5], [0, 1, 2, 0, 2])


def test_images_keep_the_rules_of_image_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("LA", (6, 2), (0, 51)).save(buffer, "png", exif=exif)
    parquet(
        tmp_path / "set/train-0.parquet",
        [{**row, "image": {"bytes": buffer.getvalue(), "path": None}} for row in rows(0, 6)],
    )
    image = opened(tmp_path).train[0]
    assert image.shape == (3, 6, 2)
    assert set(image.flatten().tolist()) == {204}  # a fifth of black over white


def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"one of name=.* or path="):
        huggingface_set(root=str(tmp_path))
    with pytest.raises(UserError, match=rf"^path: {tmp_path}/set not found"):
        opened(tmp_path)
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError, match=rf"no .parquet or .arrow files in {tmp_path}/set"):
        opened(tmp_path)
    parquet(tmp_path / "set/train-0.parquet", rows(0, 6))
    parquet(tmp_path / "set/hidden-0.parquet", [{**row, "label": -1} for row in rows(0, 3)], pa.int64())
    for options, message in {
        "train=trian": r"^train: .* no split 'trian'",
        "val=dev": r"^val: .* no split 'dev'",
        "image_column=img": r"^image_column: .* no column 'img'",
        "label_column=class": r"^label_column: .* no column 'class'",
        "test=hidden": r"test: label -1 is not a class",
    }.items():
        key, _, value = options.partition("=")
        with pytest.raises(UserError, match=message) as caught:
            opened(tmp_path, **{key: value})
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="all 6 instead of 7"):
        opened(tmp_path, test=None, test_fraction=0.5, published={"all": 7, "classes": 3})


def test_broken_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train-0.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=rf"{tmp_path}/set cannot be read") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of git-lfs"),
    ],
)
def test_what_lies_in_a_table_in_place_of_an_image_is_called_what_it_is(
    tmp_path: Path, content: bytes, told: str
) -> None:
    found = rows(0, 6)
    found[4] = {**found[4], "image": {"bytes": content, "path": "4.png"}}
    parquet(tmp_path / "set/train-0.parquet", found)
    parquet(tmp_path / "set/test-0.parquet", rows(6, 9))
    with pytest.raises(UserError, match=rf"row 4.*{told}"):
        opened(tmp_path).train[4]
    with pytest.raises(UserError, match=rf"row 4.*{told}"):
        opened(tmp_path).train.num_pixels(4)
    with pytest.raises(UserError, match=rf"1 of 6 images are broken: .*row 4.*{told}"):
        opened(tmp_path, broken="check")


def test_name_without_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^name: someone/some_set not found .*download=true") as caught:
        huggingface_set(root=str(tmp_path), name="someone/some_set", download=False)
    assert "\n" not in str(caught.value)
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_hub_out_of_reach_is_not_asked_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: bool) -> None:
        raise OSError("Network is unreachable")

    def load(*_: Any, **__: Any) -> None:
        assert datasets.config.HF_HUB_OFFLINE  # else half a minute of retries
        raise ConnectionError("Couldn't reach it on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr("dinodiet.data.sources.huggingface.check_hub", refuse)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"not found .*Network is unreachable.*mode=fetch") as caught:
        huggingface_set(root=str(tmp_path), name="someone/some_set")
    assert "\n" not in str(caught.value)
    assert not datasets.config.HF_HUB_OFFLINE


def test_images_by_path(tmp_path: Path) -> None:
    layouts.write(tmp_path / "a.png", 300)
    table = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png")]})
    table = table.cast_column("image", datasets.Image(decode=False))
    assert layouts.numbers(TableImages(table, "image", torch.tensor([0]), "t")) == [300]


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'dinodiet\[huggingface\]'"):
        huggingface_set(root=str(tmp_path), name="someone/some_set")


def test_16_bit_images_are_scaled_to_the_bits_that_they_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.linspace(0, 4095, 48).astype(np.uint16).reshape(4, 4, 3)
    images = [deep_files.png(values), deep_files.png(values[..., :1] // 2), deep_files.tiff(values)] * 4
    found = [{"image": {"bytes": data, "path": "0.png"}, "label": i % 3} for i, data in enumerate(images)]
    parquet(tmp_path / "set/train-0.parquet", found)
    parquet(tmp_path / "set/test-0.parquet", found[:3])
    source, whole = opened(tmp_path), opened(tmp_path, bits=16)
    seen = torch.from_numpy(np.rint(values * (255 / 4095)).astype(np.uint8)).permute(2, 0, 1)
    assert torch.equal(source.train[0], seen) and torch.equal(source.test[2], seen)
    assert source.train.fingerprint() != whole.train.fingerprint() and int(whole.train[0].max()) == 16
    assert caplog.text.count("set: 16-bit images that use 12 bits") == 1
    with pytest.raises(UserError, match=r"set, train, row 0 \(0\.png\): values up to 4095, .*bits=12"):
        opened(tmp_path, bits=10).train[0]
