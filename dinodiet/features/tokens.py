"""Tokens of un-augmented images: too many for memory, so they are written to a file once and mapped."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dinodiet.data.images import Subset
from dinodiet.errors import UserError
from dinodiet.features.embed import cache_key, embedded, fingerprint
from dinodiet.io.bars import interval
from dinodiet.io.files import atomic_file
from dinodiet.io.locks import exclusive_writer
from dinodiet.io.room import check_room
from dinodiet.io.units import byte_size
from dinodiet.types import Images, InputSpec, Runtime, Tokened, TokenTable

VERSION = 1  # raise it when other tokens, or another order, are written: old files are then not found


@dataclass(frozen=True)
class TokenFiles:
    """The tokens of an encoder, a file for each set of images, in bf16.

    With `key`, the fingerprint of a frozen encoder, files stay for other runs. Without, a file has no name any more
    once it is mapped: its room is given back when the table is dropped, also where the process is killed.
    """

    encoder: nn.Module
    input: InputSpec
    runtime: Runtime
    key: str | None

    def table(self, images: Images, split: str) -> TokenTable:
        """Return the tokens of the images of a split, in sample order; it is told how large a new file is.

        Raises:
            NotApplicable: the encoder has no tokens.
            UserError: there is no room for them, or the file cannot be written.
            FloatingPointError: a token is not finite.
        """
        assert isinstance(self.encoder, Tokened)
        layout = self.encoder.token_layout()
        shape = (len(images), *self._look(images))
        path = self._path(images)
        try:
            with exclusive_writer(path, on_wait=_say_that_it_waits):
                if not _complete(path, shape):
                    self._write(path, images, split, shape)
                values = _mapped(path, shape)
                if self.key is None:
                    path.unlink()
        except OSError as error:
            raise UserError(f"cache_dir: {error.strerror or error}; tokens are kept there; choose another") from error
        return TokenTable(values, layout.class_token, images.labels)

    def _path(self, images: Images) -> Path:
        cache = self.runtime.cache or Path(tempfile.gettempdir()) / "dinodiet"
        content = cache_key(self.key or fingerprint(self.encoder), images, self.input, self.runtime.precision)
        name = hashlib.blake2b(f"{VERSION} {content}".encode(), digest_size=16).hexdigest()
        return cache / "tokens" / f"{name}{'' if self.key else '_once'}.bin"

    def _look(self, images: Images) -> tuple[int, int]:
        """Return how many tokens of which width an image has."""
        first = Subset(images, torch.arange(min(len(images), 1)))
        with contextlib.closing(embedded(TokenReader(self.encoder), first, self.input, self.runtime)) as batches:
            _, count, width = next(batches).shape
        return count, width

    def _write(self, path: Path, images: Images, split: str, shape: tuple[int, ...]) -> None:
        size = 2 * torch.Size(shape).numel()
        print(f"tokens of {len(images):,} images of {split}: {byte_size(size)} in {path.parent}", flush=True)
        check_room(path.parent, size)
        with atomic_file(path) as unfinished, unfinished.open("wb") as file:
            for rows in self._rows(images, split):
                file.write(rows.view(torch.uint8).numpy().data)

    def _rows(self, images: Images, split: str) -> Iterator[Tensor]:
        batches = embedded(TokenReader(self.encoder), images, self.input, self.runtime)
        name, every = f"tokens of {split}", interval()
        bar = tqdm(total=len(images), desc=name, unit="img", mininterval=every, leave=False, delay=2)
        with bar, contextlib.closing(batches):
            for batch in batches:
                if not batch.isfinite().all():
                    raise FloatingPointError(
                        f"the encoder's tokens are not finite (precision={self.runtime.precision})"
                    )
                yield batch.bfloat16()
                bar.update(len(batch))


class TokenReader(nn.Module):
    """An encoder that returns its class token, if any, and its patch tokens in the place of the embedding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.read = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens (B, T, D) of images (B, 3, s, s)."""
        assert isinstance(self.read, Tokened)
        tokens = self.read.tokens(images)
        first = [] if tokens.class_token is None else [tokens.class_token[:, None]]
        return torch.cat([*first, tokens.patches], dim=1)


def _say_that_it_waits() -> None:
    print("waiting for another process that writes the same tokens", flush=True)


def _complete(path: Path, shape: tuple[int, ...]) -> bool:
    return path.exists() and path.stat().st_size == 2 * torch.Size(shape).numel()


def _mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    return torch.from_file(str(path), size=torch.Size(shape).numel(), dtype=torch.bfloat16).view(shape)
