"""Real processes (gloo) that meet, work and end: what each returns is read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import spawn

from dinodiet.processes.group import joined
from dinodiet.processes.place import Place


def _work(place: int, count: int, folder: str, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    with joined(Place(place, count, place, f"file://{folder}/meeting")):
        torch.save(work(*given), f"{folder}/{place}.pt")


def on_processes(count: int, folder: Path, work: Callable[..., Any], *given: Any) -> list[Any]:
    """Return what `work(*given)`, a function of a module, returns on each of so many processes: plain and tensors."""
    folder.mkdir()
    spawn(_work, (count, str(folder), work, given), count)
    return [torch.load(folder / f"{place}.pt", weights_only=True) for place in range(count)]
