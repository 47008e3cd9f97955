"""The energy that GPUs have used, as NVIDIA's management library (NVML) counts it. Imports no torch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

LIBRARY = "libnvidia-ml.so.1"  # comes with the driver
PREFIX = "GPU-"  # of a GPU's id in NVML; torch leaves it out


class EnergyCounters:
    """The energy counters of some GPUs.

    A counter is that of a whole card: what other programs make it do is counted too.

    Args:
        ids: UUIDs of the GPUs, as `torch.cuda.get_device_properties` tells them.
        library: name or path of NVML.
    """

    def __init__(self, ids: Sequence[str], library: str = LIBRARY) -> None:
        self._nvml = _loaded(library) if ids else None
        self._devices = [] if self._nvml is None else [_device(self._nvml, one) for one in ids]

    def __call__(self) -> float | None:
        """Return the joules of all of them since their drivers were loaded, in some 5 ms a GPU.

        None where library, GPU or counter is missing: part of a GPU (MIG) and cards before Volta have none.
        """
        if self._nvml is None:
            return None
        counted = [_millijoules(self._nvml, device) for device in self._devices]
        known = [number for number in counted if number is not None]
        return sum(known) / 1000 if len(known) == len(counted) else None


def _loaded(library: str) -> ctypes.CDLL | None:
    """Return the library, ready for use; None where it is missing, or older than the counters."""
    try:
        nvml = ctypes.CDLL(library)
        functions = nvml.nvmlInit_v2, nvml.nvmlDeviceGetHandleByUUID, nvml.nvmlDeviceGetTotalEnergyConsumption
    except (OSError, AttributeError):
        return None
    return nvml if functions[0]() == 0 else None


def _device(nvml: ctypes.CDLL, name: str) -> ctypes.c_void_p | None:
    found = ctypes.c_void_p()
    failed = nvml.nvmlDeviceGetHandleByUUID(f"{PREFIX}{name}".encode(), ctypes.byref(found))
    return None if failed else found


def _millijoules(nvml: ctypes.CDLL, device: ctypes.c_void_p | None) -> int | None:
    used = ctypes.c_ulonglong()
    if device is None or nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(used)):
        return None
    return used.value
