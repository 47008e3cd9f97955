"""What several processes cannot do together, as far as the configuration tells: it is refused before any is started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dinodiet.config.groups import RECORD
from dinodiet.config.precheck import constant_of
from dinodiet.errors import UserError
from dinodiet.processes.batches import check_divided

MODES = ("train", "plan")  # those in which a run has the processes that its settings ask for
FP16_ROWS = (
    "precision: fp16 scales the loss of each process, and method.head.sharded spreads the head's rows over them; "
    "choose bf16, fp32, or method.head.sharded=false"
)


def check_several(plain: Mapping[str, Any], number: int) -> None:
    """Refuse what so many processes cannot do with a configuration; its parts refuse more when they are built.

    Raises:
        UserError: one line that names the key, and what would do.
    """
    if number == 1:
        return
    if plain.get(RECORD):
        names = ", ".join(plain[RECORD])
        raise UserError(f"record: {names}: records look at one process, and there are {number}; leave them out")
    if plain.get("strategy") == "fsdp" and constant_of(str(plain["method"]["_target_"]), "trains", True):
        _check_split(plain)
    if plain.get("precision") == "fp16" and _head_is_spread(plain):
        raise UserError(FP16_ROWS)
    _check_batch(plain, number)


def _check_split(plain: Mapping[str, Any]) -> None:
    if plain["precision"] == "fp16":
        raise UserError("precision: fp16 scales the loss, which strategy=fsdp cannot; choose bf16, or strategy=ddp")
    if plain["compile"]:
        raise UserError("compile: true compiles whole backbones, which strategy=fsdp splits; use one, or strategy=ddp")


def _head_is_spread(plain: Mapping[str, Any]) -> bool:
    head = plain["method"].get("head")
    return isinstance(head, Mapping) and head.get("sharded") is True


def _check_batch(plain: Mapping[str, Any], number: int) -> None:
    """Refuse a batch that processes cannot share; one that holds a whole limited set is left to the loader."""
    schedule, limit = plain["schedule"], plain.get("dataset", {}).get("limit")
    size, parts = schedule.get("batch_size"), schedule.get("accumulate", 1)
    if not all(isinstance(value, int) and value > 0 for value in (size, parts)):
        return  # their own check speaks
    if not isinstance(limit, int) or limit >= size:
        check_divided(size, parts, number)
