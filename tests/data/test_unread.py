"""Images that this machine cannot read now are no broken images, and what is no file is not waited for."""

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from dinodiet.data.cache.decoded import estimated_bytes, keep_decoded
from dinodiet.data.dataset import open_dataset
from dinodiet.data.decode import num_pixels, read_image
from dinodiet.data.images import FileImages, Subset
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.frames import framed, num_frames
from dinodiet.data.sources.inspection import inspect
from dinodiet.data.sources.used_bits import scale_to_used_bits
from dinodiet.errors import MachineLimit, UserError
from dinodiet.io.mistaken import why_unreadable

USES: dict[str, Callable[[Path], object]] = {
    "pixels": read_image,
    "size": lambda path: num_pixels(path, str(path)),
    "frames": lambda path: num_frames(str(path)),
    "all frames": lambda path: framed([str(path)], None, "all"),
    "bits": lambda path: scale_to_used_bits([FileImages([path])], None, path.parent),
    "look": lambda path: inspect(FileImages([path])),
    "estimate": lambda path: estimated_bytes(Subset(FileImages([path]), torch.zeros(1, dtype=torch.int64))),
}


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (200, 10, len(path.name))).save(path)
    return path


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """End a test that waits for a pipe."""
    before = signal.signal(signal.SIGALRM, _late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _late(number: int, frame: object) -> None:
    raise AssertionError("it waits")


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let no further file be opened inside."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    before = Path.cwd()
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)  # the name of a socket is short
        made.bind(path.name)
        os.chdir(before)


@pytest.mark.parametrize("make", [_pipe, _device, _socket])
@pytest.mark.parametrize("use", USES)
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None], use: str) -> None:
    make(tmp_path / "a.tif")
    with contextlib.suppress(UserError):
        USES[use](tmp_path / "a.tif")
    with pytest.raises(UserError, match="a pipe, socket or device"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("use", USES)
def test_too_many_open_files_are_no_broken_image(tmp_path: Path, use: str) -> None:
    path = save(tmp_path / "a.tif")
    USES[use](path)
    with no_more_files(), pytest.raises(MachineLimit, match="ulimit -n"):
        USES[use](path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Pillow leaves such a file open
@pytest.mark.parametrize("use", ["pixels", "size", "frames", "look", "estimate"])
def test_a_disk_that_fails_is_no_broken_image(tmp_path: Path, use: str) -> None:
    (tmp_path / "a.tif").symlink_to("/proc/self/mem")  # a regular file whose first page gives EIO
    with pytest.raises(MachineLimit, match=r"a\.tif: Input/output error; the disk"):
        USES[use](tmp_path / "a.tif")


def test_nothing_is_left_out_for_too_many_open_files(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            for i in range(4):
                save(tmp_path / split / name / f"{i}.png")
    data = open_dataset(image_folder(root=str(tmp_path)), val_fraction=0.2)
    train = FileImages([tmp_path / "train" / "ant" / f"{i}.png" for i in range(4)])
    with no_more_files():
        for work in (
            lambda: inspect(train),
            lambda: why_unreadable(train.paths[0]),
            lambda: keep_decoded(data, tmp_path / "cache", 1.0),
        ):
            with pytest.raises(MachineLimit, match="ulimit -n"):
                work()


def test_a_table_of_labels_is_no_pipe(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"labels\.csv is no file, but a pipe"):
        image_folder(root=str(tmp_path), labels="labels.csv")
