"""The words of `trainable`: which part of a backbone is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dinodiet.errors import UserError

Kind = Literal["attn_proj", "norms", "bias"]
KINDS: tuple[Kind, ...] = ("attn_proj", "norms", "bias")
ANYWHERE = ("all", "head_only")  # of every backbone
WORDS = (*ANYWHERE, "last_<n>_blocks with n > 0", *KINDS, "lora_<r> with r > 0", "lora_<r>+last_<n>_blocks")

_BLOCKS = re.compile(r"last_(\d{1,9})_blocks")
_LORA = re.compile(r"lora_(\d{1,9})(?:\+last_(?:(\d{1,9})_blocks|(1)_block))?")


@dataclass(frozen=True)
class Trainable:
    """What of a backbone is trained; with none of these only the head on top of it.

    `whole`: all. `blocks`: so many of the last ones, with what follows them. `rank`: that of LoRA in the other blocks.
    `kind`: these layers or parameters.
    """

    word: str
    whole: bool = False
    blocks: int = 0
    rank: int = 0
    kind: Kind | None = None

    @property
    def in_part(self) -> bool:
        """Return whether blocks are trained in part, and not whole."""
        return self.kind is not None or self.rank > 0


def parsed(word: str) -> Trainable:
    """Return what a value of `trainable` means.

    Raises:
        UserError: it is malformed.
    """
    if word in ANYWHERE:
        return Trainable(word, whole=word == "all")
    for kind in KINDS:
        if word == kind:
            return Trainable(word, kind=kind)
    blocks, rank = _numbers(str(word))
    if blocks == 0 or rank == 0:
        raise UserError(f"trainable: {word!r}; choose from: {', '.join(WORDS)}")
    return Trainable(word, blocks=blocks or 0, rank=rank or 0)


def _numbers(word: str) -> tuple[int | None, int | None]:
    """Return the numbers of blocks and ranks that a word says, None where it says nothing of them; 0: no such word."""
    if match := _BLOCKS.fullmatch(word):
        return int(match[1]), None
    if match := _LORA.fullmatch(word):
        blocks = match[2] or match[3]
        return None if blocks is None else int(blocks), int(match[1])
    return 0, 0
