import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dinodiet.data.images import FileImages, MappedImages, Subset, TensorImages, fetch, nchw

LABELS = torch.tensor([2, 0, 1, 1, 0])


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def save(path: Path, size: tuple[int, int]) -> Path:
    Image.fromarray(pixels(*size, 3).numpy()).save(path)
    return path


class OwnImages:
    """A source from elsewhere: nothing but the protocol."""

    labels: Tensor | None = None

    def __len__(self) -> int:
        return 5

    def __getitem__(self, position: int) -> Tensor:
        return torch.full((3, 2, 2), position, dtype=torch.uint8)

    def fingerprint(self) -> str:
        return "own"


class TestTensorImages:
    def test_gray_is_repeated(self) -> None:
        stored = pixels(5, 1, 4, 6)
        image = TensorImages(stored)[3]
        assert image.shape == (3, 4, 6)
        assert all(torch.equal(channel, stored[3, 0]) for channel in image)

    def test_images_can_be_written_to(self) -> None:
        stored = pixels(5, 1, 4, 6)
        image = TensorImages(stored.clone())[3]
        image[0] = 0
        assert torch.equal(image[1], stored[3, 0])

    @pytest.mark.parametrize("channels", [1, 3])
    def test_fetch_is_a_stack_of_items(self, channels: int) -> None:
        images = TensorImages(pixels(5, channels, 4, 6), LABELS)
        fetched = fetch(images, [4, 0, 1])
        assert isinstance(fetched, Tensor)
        assert torch.equal(fetched, torch.stack([images[4], images[0], images[1]]))

    def test_fingerprint_is_of_pixels_not_of_memory_order(self) -> None:
        stored = pixels(5, 3, 4, 6)
        channels_last = stored.contiguous(memory_format=torch.channels_last)
        assert TensorImages(stored).fingerprint() == TensorImages(channels_last).fingerprint()

    @pytest.mark.parametrize("change", [lambda x: x.flip(0), lambda x: x.view(5, 3, 6, 4), lambda x: x ^ 1])
    def test_fingerprint_tells_images_apart(self, change) -> None:  # type: ignore[no-untyped-def]
        stored = pixels(5, 3, 4, 6)
        assert TensorImages(stored).fingerprint() != TensorImages(change(stored)).fingerprint()


class TestMappedImages:
    @pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 3)])
    def test_equals_images_in_memory(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        array = pixels(*shape).numpy()
        np.save(tmp_path / "images.npy", array)
        mapped = MappedImages(tmp_path / "images.npy", LABELS)
        assert torch.equal(fetch(mapped, range(5)), fetch(TensorImages(nchw(array)), range(5)))  # type: ignore[arg-type]

    def test_workers_receive_the_path_not_the_pixels(self, tmp_path: Path) -> None:
        np.save(tmp_path / "images.npy", pixels(5, 100, 100).numpy())
        mapped = MappedImages(tmp_path / "images.npy", LABELS)
        message = pickle.dumps(mapped)
        assert len(message) < 2000
        copy = pickle.loads(message)
        assert torch.equal(copy[2], mapped[2])
        assert torch.equal(copy.labels, LABELS)

    def test_fingerprint_follows_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "images.npy"
        np.save(path, pixels(5, 4, 6).numpy())
        first = MappedImages(path).fingerprint()
        assert MappedImages(path).fingerprint() == first
        np.save(path, 255 - pixels(5, 4, 6).numpy())
        assert MappedImages(path).fingerprint() != first


class TestFileImages:
    def test_fetch_stacks_equal_sizes_and_lists_others(self, tmp_path: Path) -> None:
        paths = [save(tmp_path / f"{i}.png", size) for i, size in enumerate([(4, 6), (4, 6), (6, 4)])]
        images = FileImages(paths)
        same, different = fetch(images, [1, 0]), fetch(images, [0, 2])
        assert isinstance(same, Tensor)
        assert same.shape == (2, 3, 4, 6)
        assert isinstance(different, list)
        assert [tuple(image.shape) for image in different] == [(3, 4, 6), (3, 6, 4)]

    def test_fingerprint_is_of_names_and_files_not_of_the_place(self, tmp_path: Path) -> None:
        paths = [save(tmp_path / name, (4, 6)) for name in ("a.png", "b.png")]
        before = FileImages(paths).fingerprint()
        moved = tmp_path.with_name("moved")
        tmp_path.rename(moved)
        paths = [moved / path.name for path in paths]
        assert FileImages(paths).fingerprint() == before
        assert FileImages(paths[::-1]).fingerprint() != before
        save(paths[0], (5, 6))
        assert FileImages(paths).fingerprint() != before
        moved.rename(tmp_path)

    def test_survives_the_way_to_a_worker(self, tmp_path: Path) -> None:
        images = FileImages([save(tmp_path / "a.png", (4, 6))], torch.tensor([0]))
        assert torch.equal(pickle.loads(pickle.dumps(images))[0], images[0])


class TestSubset:
    def test_selects_images_and_labels_in_order(self) -> None:
        images = TensorImages(pixels(5, 3, 4, 6), LABELS)
        subset = Subset(images, torch.tensor([3, 0]))
        assert len(subset) == 2
        assert torch.equal(subset[0], images[3])
        assert subset.labels is not None
        assert subset.labels.tolist() == [1, 2]
        assert torch.equal(fetch(subset, [1, 0]), fetch(images, [0, 3]))  # type: ignore[arg-type]

    def test_of_a_subset_is_one_selection(self) -> None:
        images = TensorImages(pixels(5, 3, 4, 6), LABELS)
        nested = Subset(Subset(images, torch.tensor([4, 2, 3])), torch.tensor([2, 0]))
        direct = Subset(images, torch.tensor([3, 4]))
        assert nested.images is images
        assert torch.equal(nested[1], direct[1])
        assert nested.fingerprint() == direct.fingerprint()
        assert nested.fingerprint() != Subset(images, torch.tensor([4, 3])).fingerprint()

    def test_of_a_source_from_elsewhere(self) -> None:
        fetched = fetch(Subset(OwnImages(), torch.tensor([4, 1])), [0, 1])
        assert isinstance(fetched, Tensor)
        assert fetched[:, 0, 0, 0].tolist() == [4, 1]


def test_nchw_refuses_other_arrays() -> None:
    arrays: list[Any] = [np.zeros((5, 4, 6)), np.zeros((5, 4, 6, 2), np.uint8), np.zeros((5, 4), np.uint8)]
    for array in arrays:
        with pytest.raises(ValueError, match="uint8"):
            nchw(array)
