"""The words of `trainable`: which part of a backbone is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dinodiet.errors import UserError

Kind = Literal["attn_proj", "norms", "bias"]
KINDS: tuple[Kind, ...] = ("attn_proj", "norms", "bias")
ANYWHERE = ("all", "head_only")  # of every backbone
WORDS = (*ANYWHERE, "last_<n>_blocks with n > 0", *KINDS)

_BLOCKS = re.compile(r"last_(\d{1,9})_blocks")


@dataclass(frozen=True)
class Trainable:
    """What of a backbone is trained; with none of these only the head on top of it.

    `whole`: all. `blocks`: so many of the last ones, with what follows them. `kind`: these layers or parameters.
    """

    word: str
    whole: bool = False
    blocks: int = 0
    kind: Kind | None = None


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
    match = _BLOCKS.fullmatch(str(word))
    if match is None or int(match[1]) == 0:
        raise UserError(f"trainable: {word!r}; choose from: {', '.join(WORDS)}")
    return Trainable(word, blocks=int(match[1]))
