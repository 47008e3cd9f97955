"""Weights and checkpoints that nobody of this program wrote: one line, and nothing in them runs."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dinodiet.errors import UserError
from dinodiet.run.weights import FORMAT
from tests.payload import Payload, has_run
from tests.running import CHOICES, composed, run

PARTS = {"format": 2, "identity": {}, "method": {}, "model": {}, "input": {}, "encoder": "x", "step": 1}


def scored(path: Path) -> None:
    run(composed(path.parent, "mode=evaluate", f"checkpoint={path}"), {**CHOICES})


def refused(path: Path, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        scored(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    assert not has_run(path.parent)


@pytest.mark.parametrize("name", ["checkpoint.pt", "theirs.pth", "theirs.ckpt", "theirs.bin"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, name: str) -> None:
    for place in ({"identity": Payload(tmp_path)}, Payload(tmp_path), {**PARTS, "method": {"x": Payload(tmp_path)}}):
        torch.save(place, tmp_path / name)
        refused(tmp_path / name, "cannot be read")
        (tmp_path / name).write_bytes(pickle.dumps(place))
        refused(tmp_path / name, "cannot be read")
    pickle.loads((tmp_path / name).read_bytes())
    assert has_run(tmp_path)  # it would have


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


def objects(folder: Path) -> Any:
    return np.array([Payload(folder)], dtype=object)


def zeros(folder: Path) -> Any:
    return np.zeros((2**12, 32, 32), np.uint8)


@pytest.mark.parametrize("content", [objects, zeros])
@pytest.mark.parametrize("mode", ["train", "plan"])
def test_hostile_arrays_of_a_dataset_are_one_line(
    tmp_path: Path, content: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**10)
    keys = itertools.product(("train", "val", "test"), ("images", "labels"))
    arrays = {f"{split}_{kind}": content(tmp_path) for split, kind in keys}
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    words = ("dataset=pathmnist", f"data_dir={tmp_path}", "dataset.source.download=false", f"mode={mode}")
    with pytest.raises(UserError, match=r"pathmnist\.npz is broken \(.*(objects|would make)") as caught:
        run(composed(tmp_path, *words), {**CHOICES, "dataset": "pathmnist"})
    assert "\n" not in str(caught.value) and not has_run(tmp_path)
