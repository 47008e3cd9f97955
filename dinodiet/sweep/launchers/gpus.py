"""The GPUs of this machine, as the driver's own command tells them: torch is not imported for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

DRIVER_SECONDS = 60  # a driver that hangs never answers


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs of this machine that CUDA_VISIBLE_DEVICES leaves."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu.strip() and gpu.strip() != "-1"]
    return [str(number) for number, _ in enumerate(_asked("--list-gpus"))]


def least_memory(gpus: Sequence[str]) -> int | None:
    """Return the bytes of the smallest of these GPUs; None where the driver does not say."""
    if not gpus:
        return None
    which = ("--query-gpu=memory.total", "--format=csv,noheader,nounits", f"--id={','.join(gpus)}")
    found = [line.strip() for line in _asked(*which)]
    if len(found) != len(gpus) or not all(line.isdigit() for line in found):
        return None
    return min(map(int, found)) * 2**20


def _asked(*arguments: str) -> list[str]:
    """Return the lines that nvidia-smi prints; none where it is missing or fails."""
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        asked = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, check=True, timeout=DRIVER_SECONDS
        )
    except subprocess.SubprocessError:
        return []
    return asked.stdout.splitlines()
