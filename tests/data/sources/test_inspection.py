import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.inspection import (
    Inspection,
    difference_hash,
    near_pairs,
    read_inspection,
    write_inspection,
)
from dinodiet.errors import UserError
from tests.payload import Payload, has_run


def photograph(number: int) -> Image.Image:
    """Return a smooth image that no other resembles."""
    cells = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC)


def tree(root: Path) -> Path:
    for split, name, numbers in (("train", "ant", range(5)), ("train", "bee", range(5, 9)), ("test", "ant", [20, 21])):
        (root / split / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            photograph(number).save(root / split / name / f"{number}.png")
    return root


def warnings(root: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    image_folder(root=str(root), broken="check")
    return [record.getMessage() for record in caplog.records]


def test_a_set_without_faults_is_passed_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert warnings(tree(tmp_path), caplog) == []


def test_blank_copied_and_similar_images_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path)
    for number, colour in enumerate(("white", "gray")):
        Image.new("RGB", (9, 9), colour).save(tmp_path / "train" / "ant" / f"blank{number}.png")
    photograph(0).save(tmp_path / "train" / "bee" / "same.bmp")
    photograph(1).save(tmp_path / "test" / "ant" / "leak.png")
    photograph(6).resize((40, 30)).save(tmp_path / "test" / "ant" / "small.jpg", quality=80)
    blank, copies, near = warnings(tmp_path, caplog)
    assert "split train: 2 of 12 images are of one colour: " in blank and "ant/blank0.png; " in blank
    assert ": 2 images are exact copies of others: " in copies
    assert f"train {tmp_path}/train/bee/same.bmp = train {tmp_path}/train/ant/0.png" in copies
    assert f"test {tmp_path}/test/ant/leak.png = train {tmp_path}/train/ant/1.png" in copies
    assert ": 1 images of split test look like one of train: " in near
    assert f"{tmp_path}/train/bee/6.png and {tmp_path}/test/ant/small.jpg" in near
    assert warnings(tmp_path, caplog) == [blank, copies, near]  # from what was kept
    image_folder(root=str(tmp_path), broken="skip")
    (shared,) = caplog.records[3:]
    assert "1 of 4 images of split test are also in train" in shared.message


def test_hashes_near_each_other_are_found_wherever_they_differ() -> None:
    draw = np.random.default_rng(0)
    first = draw.integers(1, 2**63, 500, dtype=np.uint64)
    second = draw.integers(1, 2**63, 40, dtype=np.uint64)
    for j, bits in ((3, 1), (5, 3), (8, 4), (9, 0)):
        changed = sum(1 << int(bit) for bit in draw.choice(63, bits, replace=False))
        second[j] = first[7 * j] ^ np.uint64(changed)
    assert near_pairs(first, second) == [(21, 3), (35, 5), (63, 9)]
    assert near_pairs(np.zeros(2, np.uint64), np.zeros(2, np.uint64)) == []


def test_the_hash_is_of_falling_brightness() -> None:
    falling = torch.arange(255, 0, -1).expand(3, 20, -1).to(torch.uint8)
    assert difference_hash(falling) == 2**64 - 1
    assert difference_hash(falling.flip(2)) == 0


def test_what_was_kept_is_read_again_and_a_broken_file_is_not(tmp_path: Path) -> None:
    kept = Inspection({1: "why"}, np.array([True, False]), np.array([1, 2**63], np.uint64), np.array([0, 5], np.uint64))
    write_inspection(tmp_path / "a.npz", kept)
    found = read_inspection(tmp_path / "a.npz", 2)
    assert found is not None
    assert (found.errors, found.blank.tolist()) == (kept.errors, [True, False])
    assert (found.content.tolist(), found.look.tolist()) == ([1, 2**63], [0, 5])
    assert read_inspection(tmp_path / "a.npz", 3) is None
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    assert read_inspection(tmp_path / "a.npz", 2) is None


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize("errors", [b"[]", b"3", b"{", b'{"x": "why"}', b'{"2": "why"}', b'{"-1": "why"}', DEEP])
def test_what_was_kept_by_somebody_else_is_passed_over(tmp_path: Path, errors: bytes) -> None:
    blank, seen = np.zeros(2, np.bool_), np.zeros(2, np.uint64)
    path, text = tmp_path / "a.npz", np.frombuffer(b"{}", np.uint8)
    np.savez(path, errors=np.frombuffer(errors, np.uint8), blank=blank, content=seen, look=seen)
    assert read_inspection(path, 2) is None
    for changed in (np.array([Payload(tmp_path)] * 2, dtype=object), seen.astype(float), seen[:1], seen[:, None]):
        np.savez(path, errors=text, blank=blank, content=changed, look=seen)
        assert read_inspection(path, 2) is None
    with path.open("wb") as stream:
        np.save(stream, seen)
    assert read_inspection(path, 2) is None and not has_run(tmp_path)
    np.savez(path, errors=text, blank=blank, content=seen, look=seen)
    assert read_inspection(path, 2) is not None


def test_an_unlabelled_folder_is_inspected_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (0, 0, 1):
        buffer = io.BytesIO()
        photograph(number).save(buffer, "png")
        (tmp_path / f"{len(list(tmp_path.iterdir()))}.png").write_bytes(buffer.getvalue())
    assert any("1 images are exact copies" in text for text in warnings(tmp_path, caplog))
    (tmp_path / "9.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"split train: 1 of 4 .*broken"):
        image_folder(root=str(tmp_path), broken="check")
