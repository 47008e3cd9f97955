"""Records of an offline file of W&B, parsed by W&B's own classes; it has no reader of the file in Python any more.

The file is a log in LevelDB's format: 7 bytes of W&B, then blocks of 32 KiB of parts with a header of 7 bytes each
(checksum, length, kind: whole, first, middle, last).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 2**15, 7
WHOLE, FIRST, LAST = 1, 2, 4


def records(path: Path) -> Iterator[Any]:
    """Yield the records of an offline file."""
    content, place, parts = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:  # too short for a header: the next block
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        part = content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        parts = part if kind in (WHOLE, FIRST) else parts + part
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            yield record


def history(path: Path) -> list[dict[str, Any]]:
    """Return what was logged, a dictionary for each step of W&B."""
    rows = [one.history for one in records(path) if one.HasField("history")]
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in rows]


def run_record(path: Path) -> Any:
    """Return what the run is: its group, type of job, tags and configuration."""
    return next(one.run for one in records(path) if one.HasField("run"))
