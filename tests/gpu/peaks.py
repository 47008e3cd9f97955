"""What cards can do at most, as their makers state it: dense products, in 10^12 operations a second."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

# By a part of the card's name: float32 outside of tensor cores, and bfloat16 on them. More special names come first.
PEAKS: dict[str, dict[str, float]] = {
    "H200": {"fp32": 67.0, "bf16": 989.0},
    "H100 PCIe": {"fp32": 51.0, "bf16": 756.0},
    "H100 NVL": {"fp32": 60.0, "bf16": 835.0},
    "H100": {"fp32": 67.0, "bf16": 989.0},
    "A100": {"fp32": 19.5, "bf16": 312.0},
    "A10": {"fp32": 31.2, "bf16": 125.0},
    "L40S": {"fp32": 91.6, "bf16": 362.0},
    "L4": {"fp32": 30.3, "bf16": 121.0},
    "RTX 4090": {"fp32": 82.6, "bf16": 165.2},
    "RTX 3090": {"fp32": 35.6, "bf16": 71.0},
}


def peak_of(name: str, precision: str) -> float | None:
    """Return the operations a second that a card of this name can do at most; None: it is not in the table."""
    found = next((peaks for part, peaks in PEAKS.items() if part in name), {})
    return 1e12 * found[precision] if precision in found else None


def operations(run: Callable[[], object]) -> int:
    """Return the floating-point operations of matrix products, attention and convolutions that a call makes."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def share_of_peak(done: int, seconds: float, device: torch.device, precision: str) -> str:
    """Return so many operations in so many seconds in words, with the share of the card's peak where it is known."""
    rate = done / seconds
    peak = peak_of(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None
    share = "" if peak is None else f", {rate / peak:.0%} of the peak"
    return f"{rate / 1e12:.3g} TFLOP/s{share}"
