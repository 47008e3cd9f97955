from pathlib import Path

import pytest
import torch
from PIL import Image

from dinodiet.backbones.timm import timm_backbone
from dinodiet.data.cache.place import kept_in
from dinodiet.data.dataset import RawSplits, open_dataset
from dinodiet.data.images import FileImages, TensorImages
from dinodiet.data.sources.medmnist import medmnist_set
from dinodiet.data.statistics import chosen_statistics, image_statistics
from dinodiet.results.leftovers import is_cached
from dinodiet.types import DataSpec, Images, Statistics
from tests.data.sources import test_medmnist

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def coloured(count: int) -> TensorImages:
    pixels = torch.randint(0, 256, (count, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[:, 1] //= 2
    return TensorImages(pixels, torch.arange(count) % 2)


def test_mean_and_deviation_of_all_pixels() -> None:
    images = coloured(40)
    found, values = image_statistics(images, seed=0), images.images.double() / 255
    assert found.mean == pytest.approx(values.mean(dim=(0, 2, 3)).tolist())
    assert found.std == pytest.approx(values.std(dim=(0, 2, 3), correction=0).tolist())
    assert found.origin == "computed from 40 of 40 training images, seed 0"


def test_images_of_different_sizes_count_alike(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), (0, 0, 0)).save(tmp_path / "small.png")
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / "large.png")
    found = image_statistics(FileImages([tmp_path / "small.png", tmp_path / "large.png"]), seed=0)
    assert found.mean == pytest.approx([100 / 255, 50 / 255, 25 / 255])
    assert found.std == pytest.approx([100 / 255, 50 / 255, 25 / 255])


def test_those_of_files_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        Image.new("RGB", (4, 3), (40 * number, 100 + number, 7 * number)).save(tmp_path / f"{number}.png")
    files = FileImages(sorted(tmp_path.glob("*.png")), torch.arange(6) % 2)
    computed: list[int] = []

    def count(images: Images, seed: int) -> Statistics:
        computed.append(seed)
        return image_statistics(images, seed)

    def found(seed: int = 0) -> Statistics | None:
        with kept_in(tmp_path / "cache"):
            return chosen_statistics("dataset", None, files, seed, "small")

    monkeypatch.setattr("dinodiet.data.statistics.image_statistics", count)
    assert found() == found() == image_statistics(files, 0)
    assert computed == [0]
    (path,) = (tmp_path / "cache" / "statistics").glob("*.json")
    assert is_cached(path, path.parent)
    for broken in ("", "{}", '{"mean": [0, 0], "std": 3, "origin": ""}', path.read_text().replace("std", "x")):
        path.write_text(broken)
        assert found() == image_statistics(files, 0)
    assert found(seed=1) is not None and computed == [0] * 5 + [1]
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "0.png")
    files = FileImages(files.paths, files.labels)
    assert found() == image_statistics(files, 0) and len(computed) == 7
    chosen_statistics("dataset", None, files, 0, "small")
    with kept_in(tmp_path / "other"):
        chosen_statistics("dataset", None, coloured(40), 0, "small")  # which are in memory
    assert len(computed) == 9 and not (tmp_path / "other").exists()


def test_of_many_a_sample_of_the_seed_is_taken() -> None:
    one, same, other = (image_statistics(coloured(40), seed, most=10) for seed in (0, 0, 1))
    assert one == same
    assert one.mean != other.mean
    assert one.origin == "computed from 10 of 40 training images, seed 0"


def test_what_is_asked_for() -> None:
    raw = RawSplits("small", coloured(40), coloured(4), 2)
    assert open_dataset(raw).spec.statistics is None
    published = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    known = RawSplits("small", coloured(40), coloured(4), 2, statistics=published)
    assert open_dataset(known).spec.statistics is None
    assert open_dataset(known, normalization="dataset").spec.statistics == published
    given = open_dataset(known, normalization={"mean": [0.1, 0.1, 0.1], "std": [1, 1, 1]}).spec.statistics
    assert given == Statistics((0.1, 0.1, 0.1), (1.0, 1.0, 1.0), "given")
    computed = open_dataset(raw, normalization="dataset", limit=9).spec.statistics
    assert computed is not None and computed == open_dataset(raw, normalization="dataset").spec.statistics


def test_medmnist_is_normalised_as_its_authors_do(tmp_path: Path) -> None:
    test_medmnist.write(tmp_path, "pathmnist")
    source = medmnist_set(name="pathmnist", root=str(tmp_path))
    assert source.statistics == Statistics((0.5,) * 3, (0.5,) * 3)


def test_a_backbone_normalises_by_the_dataset_where_that_is_asked_for() -> None:
    names: dict[str, str | None] = {"18": "resnet18.a1_in1k"}
    plain, other = DataSpec("a", 1, 2), DataSpec("a", 1, 2, statistics=Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    by_weights, by_data = (
        timm_backbone(spec, size="18", names=names, feature="pooled", weights="none") for spec in (plain, other)
    )
    assert (by_weights.input.mean, by_weights.input.std) == IMAGENET
    assert (by_data.input.mean, by_data.input.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    image = torch.full((1, 3, 2, 2), 0.5)
    assert by_data.normalize(image)[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.6, 1 / 3])
