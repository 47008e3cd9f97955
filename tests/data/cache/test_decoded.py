import errno
import itertools
import logging
import multiprocessing
import os
import pickle
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dinodiet.data import images
from dinodiet.data.cache import decoded, pixels
from dinodiet.data.cache.decoded import DecodedImages, keep_decoded
from dinodiet.data.dataset import RawSplits, open_dataset
from dinodiet.data.decode import read_image
from dinodiet.data.images import FileImages, Subset, TensorImages, fetch
from dinodiet.data.loader import TrainLoader
from dinodiet.data.sources.folder import image_folder
from dinodiet.errors import UserError
from tests.data import deep_files
from tests.data.cache.decoding import SPLITS, everything, files, folder, opened, same


@pytest.mark.parametrize("bands", [1, 3])
def test_16_bit_images_of_other_bits_are_kept_apart(tmp_path: Path, bands: int) -> None:
    root, values = tmp_path / "data", np.linspace(0, 4095, 64 * bands).reshape(8, 8, bands).astype(np.uint16)
    for split, name, number in itertools.product(("train", "test"), ("ant", "bee"), range(2)):
        (root / split / name).mkdir(parents=True, exist_ok=True)
        (root / split / name / f"{number}.png").write_bytes(deep_files.png(values))
    brightest = {}
    for bits in (None, 16, 12, 14):
        plain = open_dataset(image_folder(root=str(root), bits=bits), val_fraction=0.5)
        kept = keep_decoded(plain, tmp_path / "cache", 1)
        assert same(kept, plain) and isinstance(kept.test, DecodedImages)
        brightest[bits] = int(kept.test[0].max())
    assert brightest == {None: 255, 12: 255, 16: 16, 14: 64}
    assert len(files(tmp_path / "cache")) == 2 * 3  # of train and of test, by bits


@pytest.mark.parametrize("options", [{}, {"limit": 10}, {"split_seed": 3}])
@pytest.mark.parametrize("threads", [1, 3])
def test_equals_the_images_in_everything(tmp_path: Path, options: dict[str, Any], threads: int) -> None:
    plain = opened(folder(tmp_path / "data"), **options)
    data = keep_decoded(plain, tmp_path / "cache", 1, threads)
    assert len(files(tmp_path / "cache")) == 2  # of train and of test
    assert same(data, plain)
    assert data.spec == plain.spec
    assert data.pretext is data.train
    for name in SPLITS:
        ours, theirs = getattr(data, name), getattr(plain, name)
        assert ours.fingerprint() == theirs.fingerprint()
        assert torch.equal(ours.labels, theirs.labels)
    batch = fetch(data.train, [3, 1, 3])
    assert all(torch.equal(one, other) for one, other in zip(batch, fetch(plain.train, [3, 1, 3]), strict=True))


def test_nothing_is_decoded_twice(tmp_path: Path, decodings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    plain = opened(folder(tmp_path / "data"))
    everything(keep_decoded(plain, tmp_path / "cache", 1))
    assert len(decodings) == len(set(decodings)) == 36
    assert "decoding 24 image files once: about 9.9 KiB in " in capsys.readouterr().out
    decodings.clear()
    everything(keep_decoded(opened(tmp_path / "data", split_seed=5), tmp_path / "cache", 1))
    assert not decodings  # of another validation split too
    assert capsys.readouterr().out == ""


def test_only_what_is_used_is_decoded(tmp_path: Path, decodings: list[str]) -> None:
    data = keep_decoded(opened(folder(tmp_path / "data"), limit=6), tmp_path / "cache", 1)
    assert len(decodings) == 6 + len(data.val) + len(data.test)


def test_changed_files_are_decoded_again(tmp_path: Path) -> None:
    folder(tmp_path / "data")
    keep_decoded(opened(tmp_path / "data"), tmp_path / "cache", 1)
    new = torch.full((9, 9, 3), 77, dtype=torch.uint8)
    Image.fromarray(new.numpy()).save(tmp_path / "data/train/ant/3.png")
    assert same(keep_decoded(opened(tmp_path / "data"), tmp_path / "cache", 1), opened(tmp_path / "data"))


@pytest.mark.parametrize("limit", [0, 1e-6])
def test_sets_beyond_the_limit_stream(tmp_path: Path, limit: float) -> None:
    plain = opened(folder(tmp_path / "data"))
    assert keep_decoded(plain, tmp_path / "cache", limit) is plain
    assert not (tmp_path / "cache").exists()


def test_images_in_memory_stay_as_they_are(tmp_path: Path) -> None:
    split = TensorImages(torch.zeros(40, 1, 2, 2, dtype=torch.uint8), torch.arange(40) % 2)
    plain = open_dataset(RawSplits("small", split, split, num_labels=2))
    data = keep_decoded(plain, tmp_path / "cache", 1)
    assert all(getattr(data, name) is getattr(plain, name) for name in SPLITS)


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    plain = opened(folder(tmp_path / "data"))
    assert same(keep_decoded(plain, tmp_path / "file" / "cache", 1), plain)
    assert "are not kept decoded in" in caplog.text


def test_a_disk_that_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pixels, "_write", full)
    plain = opened(folder(tmp_path / "data"))
    assert same(keep_decoded(plain, tmp_path / "cache", 1), plain)
    assert "No space left on device" in caplog.text
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".lock"}


def test_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = opened(folder(tmp_path / "data"))
    needed = sum(decoded.estimated_bytes(s) for s in decoded._used([plain.train, plain.val, plain.test]))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * needed - 1))
    assert keep_decoded(plain, tmp_path / "cache", 1) is plain
    assert "free" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * needed))
    assert keep_decoded(plain, tmp_path / "cache", 1) is not plain


def test_a_broken_image_is_named_where_it_is_used(tmp_path: Path) -> None:
    broken = folder(tmp_path / "data") / "train/bee/4.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n no image")
    data = keep_decoded(opened(tmp_path / "data"), tmp_path / "cache", 1)
    for split in (data.train, data.val):
        assert isinstance(split, Subset) and isinstance(split.images, DecodedImages)
        for position in range(len(split)):
            path = split.images.images.paths[int(split.positions[position])]  # type: ignore[attr-defined]
            if Path(path) == broken:
                with pytest.raises(UserError, match=r"bee/4\.png: cannot be read"):
                    split[position]
            else:
                assert torch.equal(split[position], read_image(path))


def test_a_worker_maps_the_file_itself(tmp_path: Path) -> None:
    for i in range(20):
        Image.new("RGB", (100, 100), (i, 0, 0)).save(tmp_path / f"{i}.png")
    split = FileImages([tmp_path / f"{i}.png" for i in range(20)], torch.arange(20) % 2)
    plain = open_dataset(RawSplits("small", split, split, num_labels=2))
    data = keep_decoded(plain, tmp_path / "cache", 1)
    message = pickle.dumps(data)  # as a worker that is spawned receives it; 600,000 bytes of pixels
    assert len(message) < 20_000
    assert same(pickle.loads(message), plain)
    for workers in (0, 1):
        batches = TrainLoader(data.pretext, 6, seed=0, num_workers=workers).batches(0)
        expected = TrainLoader(plain.pretext, 6, seed=0).batches(0)
        for ours, theirs in itertools.islice(zip(batches, expected, strict=False), 4):
            assert torch.equal(ours.images, theirs.images)  # type: ignore[arg-type]


def test_writing_to_an_image_does_not_change_the_next(tmp_path: Path) -> None:
    data = keep_decoded(opened(folder(tmp_path / "data")), tmp_path / "cache", 1)
    before = data.test[0].clone()
    data.test[0].zero_()
    assert torch.equal(data.test[0], before)


def _open_and_count(root: Path, cache: Path, start: Any, log: Path) -> None:
    def slowly(path: str | Path, draft_side: int | None = None, frame: int = 0, bits: int = 16) -> Tensor:
        with log.open("a") as stream:
            stream.write(f"{path}\n")
        time.sleep(0.002)
        return read_image(path, draft_side)

    images.read_image = slowly  # type: ignore[attr-defined]
    plain = opened(root)
    start.wait()
    data = keep_decoded(plain, cache, 1)
    images.read_image = read_image  # type: ignore[attr-defined]
    if not same(data, plain) or not isinstance(data.test, DecodedImages):
        os._exit(1)


def test_two_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    folder(tmp_path / "data")
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    arguments = (tmp_path / "data", tmp_path / "cache", start, tmp_path / "log")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that do not survive the fork
        processes = [context.Process(target=_open_and_count, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    decodings = (tmp_path / "log").read_text().splitlines()
    assert len(decodings) == len(set(decodings)) == 36


def test_the_rows_of_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    datasets = pytest.importorskip("datasets")
    from dinodiet.data.sources.huggingface import TableImages
    from tests.data import layouts

    rows = [{"image": {"bytes": layouts.png(i), "path": None}} for i in range(30)]
    features = datasets.Features({"image": datasets.Image(decode=False)})
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(tmp_path / "table"))
    split = TableImages(datasets.load_from_disk(str(tmp_path / "table")), "image", torch.arange(30) % 2, "table")
    plain = open_dataset(RawSplits("table", split, split, num_labels=2))
    with caplog.at_level(logging.WARNING):
        data = keep_decoded(plain, tmp_path / "cache", 1)
    assert isinstance(data.test, DecodedImages)
    assert layouts.numbers(data.test) == list(range(30))
    assert data.test.fingerprint() == split.fingerprint()
    assert not caplog.text


def test_large_sets_are_estimated_from_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "a.png")
    asked: list[int] = []

    def counted(split: FileImages, position: int) -> int:
        asked.append(position)
        return 35

    monkeypatch.setattr(FileImages, "num_pixels", counted)
    split = FileImages([tmp_path / "a.png"] * 10_000)
    assert decoded.estimated_bytes(Subset(split, torch.arange(10_000))) == 10_000 * 105
    assert len(asked) < 200
    assert max(asked) > 9000
