"""The machine a run is on: device, memory, versions."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
from typing import Any

import torch

from dinodiet.errors import UserError

PACKAGES = ("torch", "torchvision", "timm", "scikit-learn", "hydra-core", "dinodiet")


def pick_device(name: str) -> torch.device:
    """Return the device: `auto` takes CUDA where there is one.

    Raises:
        UserError: the device is unknown or not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device: {name!r}; choose from: auto, cpu, cuda, cuda:<number>") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device: {name!r}; this machine has {torch.cuda.device_count()} CUDA devices; try device=auto")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device: {name!r}; choose from: auto, cpu, cuda, cuda:<number>")
    return device


def describe_device(device: torch.device) -> str:
    """Return the device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory this process has held, in MiB: of the GPU's where it runs on one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def facts(device: torch.device) -> dict[str, Any]:
    """Return what `results.json` says of the machine."""
    return {
        "device": describe_device(device),
        "host": platform.node(),
        "versions": versions(),
    }
