from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.features import tokens as module
from dinodiet.features.tokens import TokenFiles
from dinodiet.types import Runtime, Tokens
from tests.evals.tokened import WIDTH, Squares, images

IMAGES = images(20, seed=0)


class Stopping(Squares):
    """Stops after so many images, as a job that is killed."""

    def tokens(self, images: Tensor) -> Tokens:
        if self.seen > 9:
            raise KeyboardInterrupt
        return super().tokens(images)


def files(folder: Path, encoder: Squares, key: str | None = "frozen") -> TokenFiles:
    return TokenFiles(encoder.eval(), encoder.input, Runtime(batch_size=8, cache=folder), key)


def test_tokens_are_the_class_token_and_the_patches_in_bf16_in_sample_order(tmp_path: Path) -> None:
    table = files(tmp_path, Squares()).table(IMAGES, "train")
    found = Squares().eval().tokens(IMAGES.images.float() / 255)
    assert found.class_token is not None and table.class_token
    expected = torch.cat([found.class_token[:, None], found.patches], dim=1)
    assert torch.equal(table.values, expected.bfloat16()) and table.values.shape == (20, 17, WIDTH)
    assert table.labels is IMAGES.labels and len(table) == 20
    without = files(tmp_path, Squares(class_token=False), "other").table(IMAGES, "train")
    assert torch.equal(without.values, found.patches.bfloat16()) and not without.class_token


def test_a_file_of_a_frozen_encoder_is_found_again_by_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = Squares()
    first = files(tmp_path, encoder).table(IMAGES, "train")
    assert "tokens of 20 images of train: 8.0 KiB in" in capsys.readouterr().out
    assert torch.equal(files(tmp_path, encoder).table(IMAGES, "val").values, first.values)
    assert encoder.seen == 20 + 1 + 1 and capsys.readouterr().out == ""
    files(tmp_path, encoder).table(images(20, seed=1), "train")
    files(tmp_path, encoder, "another").table(IMAGES, "train")
    assert len(list(tmp_path.rglob("*.bin"))) == 3


def test_what_a_killed_writer_left_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        files(tmp_path, Stopping()).table(IMAGES, "train")
    assert list(tmp_path.rglob("*.bin*")) == []
    table = files(tmp_path, Squares()).table(IMAGES, "train")
    (path,) = tmp_path.rglob("*.bin")
    expected = table.values.clone()
    path.write_bytes(path.read_bytes()[:-2])  # cut off by a full disk
    assert torch.equal(files(tmp_path, Squares()).table(IMAGES, "train").values, expected)


def test_without_a_key_the_file_is_gone_and_its_tokens_are_not(tmp_path: Path) -> None:
    table = files(tmp_path, Squares(), None).table(IMAGES, "train")
    assert list(tmp_path.rglob("*.bin*")) == []
    assert torch.equal(table.values, files(tmp_path, Squares()).table(IMAGES, "train").values)


def test_a_full_disk_or_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens").write_text("a file")
    with pytest.raises(UserError, match=r"^cache_dir: .*; tokens are kept there; choose another"):
        files(tmp_path, Squares()).table(IMAGES, "train")
    (tmp_path / "tokens").unlink()

    def full(folder: Path, needed: int) -> None:
        raise OSError(errno.ENOSPC, f"{needed} B to write to {folder}, 0 B free")

    monkeypatch.setattr(module, "check_room", full)
    with pytest.raises(UserError, match=f"^cache_dir: {20 * 17 * 12 * 2} B to write to .*, 0 B free; tokens are kept"):
        files(tmp_path, Squares()).table(IMAGES, "train")


def test_tokens_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        files(tmp_path, Squares(scale=float("inf"))).table(IMAGES, "train")
