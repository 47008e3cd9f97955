from pathlib import Path

import pytest
import torch
from PIL import Image

from dinodiet.data.dataset import open_dataset
from dinodiet.data.images import FileImages, Subset
from dinodiet.data.sources.folder import image_folder

FRAMES = 3


def write(root: Path, kind: str, count: int = 6) -> Path:
    """Write files of 3 frames in two classes; the gray of frame f of file i is 40 i + 10 f + 5. One file has one."""
    for label, name in enumerate(("ant", "bee")):
        for i in range(label, count, 2):
            frames = [Image.new("L", (8, 8), 40 * i + 10 * f + 5) for f in range(FRAMES)]
            path = root / "train" / name / f"{i}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            more = frames[1:] if i else []
            frames[0].save(path, save_all=True, append_images=more, lossless=True)
    return root


@pytest.mark.parametrize("kind", ["tiff", "gif", "webp"])
def test_every_frame_is_an_image(kind: str, tmp_path: Path) -> None:
    source = image_folder(root=str(write(tmp_path, kind)), frames="all", test_fraction=0.34)
    assert (len(source.train), len(source.test)) in {(10, 6), (12, 4)}
    for split in (source.train, source.test):
        assert isinstance(split, Subset) and isinstance(split.images, FileImages)
        names = split.images.names()
        for place, position in enumerate(split.positions.tolist()):
            file, _, frame = names[position].rpartition("#")
            assert int(split[place][0, 0, 0]) == 40 * int(Path(file).stem) + 10 * int(frame) + 5


def test_the_frames_of_a_file_are_in_one_split(tmp_path: Path) -> None:
    source = image_folder(root=str(write(tmp_path, "tiff", count=10)), frames="all", test_fraction=0.2)
    data = open_dataset(source, val_fraction=0.25)
    files = []
    for split in (data.train, data.val, data.test):
        assert isinstance(split, Subset) and isinstance(split.images, FileImages)
        files.append({split.images.paths[position] for position in split.positions.tolist()})
    assert sum(map(len, files)) == len(set.union(*files)) == 10
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 9 * FRAMES + 1


def test_that_frames_are_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = image_folder(root=str(write(tmp_path, "gif")))
    assert len(source.train) + len(source.test) == 6
    assert "5 of 6 files hold several frames" in caplog.text
    assert "frames=all takes all" in caplog.text
    caplog.clear()
    layout = tmp_path / "single"
    (layout / "train" / "ant").mkdir(parents=True)
    Image.new("L", (4, 4)).save(layout / "train" / "ant" / "0.tif")
    Image.new("L", (4, 4)).save(layout / "train" / "ant" / "1.png")
    image_folder(root=str(layout))
    assert "frames" not in caplog.text


def test_frames_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path, "tiff") / "train" / "bee" / "1.tiff"
    labels = torch.zeros(2, dtype=torch.int64)
    one, two = (FileImages([path, path], labels, frames=frames) for frames in ([0, 1], [0, 2]))
    assert one.fingerprint() != two.fingerprint()
