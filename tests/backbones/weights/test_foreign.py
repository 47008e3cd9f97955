"""Files that are no weights are called what they are."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dinodiet.errors import UserError
from tests.backbones.small import build_small, own_state

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
FILES: dict[str, tuple[str, bytes, str]] = {
    "pointer": ("a.pth", POINTER, "pointer of git-lfs.*git lfs pull"),
    "pointer_safetensors": ("a.safetensors", POINTER, "pointer of git-lfs"),
    "page": ("a.bin", b"<!DOCTYPE html>\n<html><body>login</body></html>", "a web page"),
    "page_safetensors": ("a.safetensors", b"\n <html lang=en>", "a web page"),
    "error": ("a.pt", b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
    "empty": ("a.pth", b"", "is empty"),
    "empty_safetensors": ("a.safetensors", b"", "is empty"),
    "onnx": ("a.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX graph.*convert"),
    "flax": ("flax_model.msgpack", b"\xde\x00\x10\xa6params", "a Flax checkpoint"),
    "keras": ("a.weights", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "gzip": ("a.pth.gz", b"\x1f\x8b\x08\x00", "gzip archive; unpack"),
    "json": ("config.json", b'{"a": 1}', "a JSON file"),
    "storage": ("a.pth", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "error AccessDenied"),
    "text": ("a.pth", b"Entry not found", "text that begins 'Entry not found'"),
    "answer": ("a.safetensors", b'{"error": "gated repo"}', "JSON that begins"),
    "tar": ("a.pth", bytes(257) + b"ustar", "tar archive; unpack"),
    "pdf": ("a.pth", b"%PDF-1.4", "a PDF"),
    "video": ("a.bin", b"\0\0\0\x18ftypisom", "a video; weights are read from"),
    "image": ("a.pth", b"\x89PNG\r\n", "an image"),
}


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        build_small("vit_tiny", weights=str(path))
    message = str(caught.value)
    assert message.startswith(f"weights: {path} ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named(name: str, tmp_path: Path) -> None:
    file, content, message = FILES[name]
    (tmp_path / file).write_bytes(content)
    assert re.search(message, refused(tmp_path / file))


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_file_that_is_cut_off_says_so(kind: str, share: float, tmp_path: Path) -> None:
    path, state = tmp_path / f"a.{kind}", own_state(build_small("vit_tiny"))
    torch.save(state, path) if kind == "pth" else save_file(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "is cut off" in refused(path)


def test_archives_of_other_things_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "jax.npz", kernel=np.ones(3))
    assert "NumPy archive" in refused(tmp_path / "jax.npz")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    assert "an archive; unpack it" in refused(tmp_path / "images.zip")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:  # as torch.jit.save leaves it
        archive.writestr("script/constants.pkl", "")
        archive.writestr("script/data.pkl", "")
    assert "TorchScript archive" in refused(tmp_path / "script.pt")
