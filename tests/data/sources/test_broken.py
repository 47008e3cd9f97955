import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.data.dataset import open_dataset
from dinodiet.data.decode import read_image
from dinodiet.data.images import fetch
from dinodiet.data.sources import broken as module
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.inspection import Inspection, inspect
from dinodiet.errors import UserError
from dinodiet.types import Images


def red(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


def tree(root: Path, bad: tuple[str, ...] = ()) -> Path:
    """Write ten images a class for train and test; the red channel of image i of class c is 100 c + i."""
    for split in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(10):
                path = root / split / name / f"{i}.png"
                path.write_bytes(
                    b"\x89PNG\r\n\x1a\n no image" if f"{split}/{name}/{i}" in bad else red(100 * label + i)
                )
    return root


def opened(root: Path, broken: Any, **options: Any) -> Any:
    return open_dataset(image_folder(root=str(root), broken=broken), val_fraction=0.2, **options)


BAD = ("train/ant/3", "train/bee/0", "test/bee/9")


def test_refused_when_first_used(tmp_path: Path) -> None:
    train = image_folder(root=str(tree(tmp_path, BAD))).train
    with pytest.raises(UserError, match=r"ant/3.png: cannot be read"):
        fetch(train, range(20))


def test_checked_at_opening_named_and_counted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split train: 2 of 20 .*broken: .*ant/3.png.*bee/0.png") as caught:
        opened(tree(tmp_path, BAD), "check")
    assert "broken=skip" in str(caught.value)
    assert "\n" not in str(caught.value)
    opened(tree(tmp_path), "check")


def test_skipped_images_leave_consistent_indices(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = image_folder(root=str(tree(tmp_path, BAD)), broken="skip")
    assert "split train: 2 of 20 images are broken and left out" in caplog.text
    assert "bee/9.png" in caplog.text
    assert (len(source.train), len(source.test)) == (18, 19)
    for split in (source.train, source.test):
        assert split.labels is not None
        values = torch.stack([split[i][0, 0, 0] for i in range(len(split))]).long()
        assert torch.equal(values // 100, split.labels)
        assert len(set(values.tolist())) == len(split)
    data = opened(tmp_path, "skip")
    assert data.spec.num_images == len(data.pretext) == 18 - len(data.val)


def test_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, BAD)
    first = image_folder(root=str(tmp_path), broken="skip")
    calls: list[int] = []
    look = inspect

    def counted(images: Images) -> Inspection:
        calls.append(len(images))
        return look(images)

    monkeypatch.setattr(module, "inspect", counted)
    caplog.clear()
    again = image_folder(root=str(tmp_path), broken="skip")
    assert not calls
    assert "split test: 1 of 20" in caplog.text
    assert again.train.fingerprint() == first.train.fingerprint()
    (tmp_path / "train/ant/3.png").write_bytes(red(3))
    assert len(image_folder(root=str(tmp_path), broken="skip").train) == 19
    assert calls == [20]


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = image_folder(root=str(tree(tmp_path / "data", BAD)))
    (tmp_path / "file").touch()
    with caplog.at_level(logging.INFO):
        found = module.handle_broken(source, "skip", tmp_path / "file" / "below")
    assert len(found.train) == 18
    assert "the next run looks for broken images again" in caplog.text


def test_a_split_without_sound_images(tmp_path: Path) -> None:
    tree(tmp_path, tuple(f"test/{name}/{i}" for name in ("ant", "bee") for i in range(10)))
    with pytest.raises(UserError, match=r"split test: 20 of 20 .*broken: .*; \.\.\.; "):
        opened(tmp_path, "skip")


@pytest.mark.parametrize(
    ("kind", "damage", "size"),
    [
        ("jpeg", {}, (8, 4)),
        ("jpeg", {33: 197, 35: 45, 51: 238}, (8, 4)),  # another note is damaged, the orientation is not
        ("webp", {}, (8, 4)),
        ("webp", {0: 88, 1: 88}, (4, 8)),
    ],
)
def test_exif_that_cannot_be_read_does_not_cost_the_image(
    tmp_path: Path, kind: str, damage: dict[int, int], size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "hello", 1.5
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), (9, 9, 9)).save(buffer, kind, exif=exif)
    data = bytearray(buffer.getvalue())
    start = data.index(b"MM\x00*")
    for offset, value in damage.items():
        data[start + offset] = value
    (tmp_path / "a").write_bytes(data)
    assert read_image(tmp_path / "a").shape == (3, *size)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path: Path, orientation: int) -> None:
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    upright = {  # what the stored rows and columns mean, from the EXIF standard
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.T, 6: stored[::-1].T, 7: stored[::-1, ::-1].T, 8: stored.T[::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png")[0].numpy(), upright)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_modes(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (16, 16), (200, 100, 50)).convert(mode).save(tmp_path / "a.jpg", quality=100)
    mean = read_image(tmp_path / "a.jpg").float().mean(dim=(1, 2)).tolist()
    gray = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert mean == pytest.approx([gray] * 3 if mode == "L" else [200, 100, 50], abs=2)


def _rgb16_png(rows: list[list[tuple[int, int, int]]]) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    raw = b"".join(b"\0" + b"".join(struct.pack(">3H", *pixel) for pixel in row) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def test_16_bit_colour(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_rgb16_png([[(65535, 0, 257 * 100), (257 * 3, 257 * 200, 257)]]))
    assert read_image(tmp_path / "a.png")[:, 0].T.tolist() == [[255, 0, 100], [3, 200, 1]]
