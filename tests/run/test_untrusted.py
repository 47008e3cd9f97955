"""Weights and checkpoints that nobody of this program wrote: one line, and nothing in them runs."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dinodiet.errors import UserError
from dinodiet.run.weights import FORMAT
from tests.running import CHOICES, composed, run

PARTS = {"format": 2, "identity": {}, "method": {}, "model": {}, "input": {}, "encoder": "x", "step": 1}


class Payload:
    """Makes a file named `ran` when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.folder / "ran",)


def scored(path: Path) -> None:
    run(composed(path.parent, "mode=evaluate", f"checkpoint={path}"), {**CHOICES})


def refused(path: Path, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        scored(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert not (path.parent / "ran").exists()


@pytest.mark.parametrize("name", ["checkpoint.pt", "theirs.pth", "theirs.ckpt", "theirs.bin"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, name: str) -> None:
    for place in ({"identity": Payload(tmp_path)}, Payload(tmp_path), {**PARTS, "method": {"x": Payload(tmp_path)}}):
        torch.save(place, tmp_path / name)
        refused(tmp_path / name, "cannot be read")
        (tmp_path / name).write_bytes(pickle.dumps(place))
        refused(tmp_path / name, "cannot be read")
    pickle.loads((tmp_path / name).read_bytes())
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize("key", [key for key in PARTS if key != "format"])
@pytest.mark.parametrize("value", [None, [1], "text", 1.5])
def test_a_checkpoint_with_anything_in_the_place_of_a_part(tmp_path: Path, key: str, value: Any) -> None:
    if (key, value) != ("encoder", "text"):
        torch.save({**PARTS, key: value}, tmp_path / "checkpoint.pt")
        refused(tmp_path / "checkpoint.pt", "was not written by dinodiet|is not whole")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04.", b"<!doctype html>", b"\xff" * 64])
@pytest.mark.parametrize("name", ["checkpoint.pt", "encoder.safetensors"])
def test_bytes_of_anything(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "cannot be read")


@pytest.mark.parametrize("length", [2**63, 2**40, 100_000_000])
def test_a_header_that_is_longer_than_its_file(tmp_path: Path, length: int) -> None:
    (tmp_path / "encoder.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    refused(tmp_path / "encoder.safetensors", "cannot be read")


@pytest.mark.parametrize(
    "metadata",
    [{}, {"format": "9"}, {"format": FORMAT}, *({"format": FORMAT, "model": x, "input": x} for x in ("{", "3", "[]"))],
)
def test_metadata_of_anything(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "encoder.safetensors", metadata)
    refused(tmp_path / "encoder.safetensors", "format|does not say of which model")


def test_code_in_arrays_of_a_dataset_does_not_run(tmp_path: Path) -> None:
    arrays = {f"{split}_images": np.array([Payload(tmp_path)], dtype=object) for split in ("train", "val", "test")}
    np.savez(tmp_path / "pathmnist.npz", **arrays)  # type: ignore[arg-type]
    source = ("dataset.source.published=null", "dataset.source.download=false")
    words = ("dataset=pathmnist", f"data_dir={tmp_path}", *source)
    with pytest.raises(UserError):
        run(composed(tmp_path, *words), {**CHOICES, "dataset": "pathmnist"})
    assert not (tmp_path / "ran").exists()
