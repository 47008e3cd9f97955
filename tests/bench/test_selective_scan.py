"""What our selective scan costs against the plain one: alone, and within MambaVision-T on two images of 224 px."""

import ctypes
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dinodiet.backbones.architectures import mambavision_layers
from dinodiet.backbones.architectures.mambavision import mambavision
from dinodiet.backbones.architectures.mambavision_layers import MambaMixer
from dinodiet.backbones.architectures.selective_scan import selective_scan
from dinodiet.types import DataSpec
from tests.bench.rows import Note

from ..backbones.plain_scan import plain_scan

PAIRS = 7
SCANS: dict[str, Any] = {"ours": selective_scan, "plain": plain_scan}
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux


def forward_and_backward(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(x).square().sum().backward()

    return run


def whole_model() -> Callable[[], None]:
    torch.manual_seed(0)
    backbone = mambavision(DataSpec("photos", num_images=2, num_labels=2), size="T", weights="none")
    return forward_and_backward(backbone.train(), torch.randn(2, 3, 224, 224))


def mixer_alone() -> Callable[[], None]:
    torch.manual_seed(0)
    return forward_and_backward(MambaMixer(320), torch.randn(2, 196, 320))  # stage 2 of T at 224 px


def resident(what: str) -> float:
    """Return the process's memory in MB: `VmRSS` now, `VmHWM` its peak since it was cleared."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def peak(run: Callable[[], None]) -> float:
    """Return by how many MB a run raises the process's memory; NaN where the system does not tell."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what the last run freed goes back to the system first
        CLEAR.write_text("5")
    except (AttributeError, OSError):
        return float("nan")
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def compare(run: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, float], list[float], str]:
    """Return each scan's peak memory, the ratios of plain time to ours, sorted, and a line of text."""
    seconds: dict[str, list[float]] = {name: [] for name in SCANS}
    memory = dict.fromkeys(SCANS, 0.0)
    for pair in range(PAIRS + 1):
        for name in sorted(SCANS, reverse=pair % 2 == 1):
            monkeypatch.setattr(mambavision_layers, "selective_scan", SCANS[name])
            if pair == 0:  # the first pair warms up
                run()
                memory[name] = peak(run)
                continue
            begun = time.process_time()  # not disturbed by what else the machine does
            run()
            seconds[name].append(time.process_time() - begun)
    ratios = sorted(plain / ours for plain, ours in zip(seconds["plain"], seconds["ours"], strict=True))
    costs = [f"{name} {statistics.median(seconds[name]) * 1e3:.0f} ms, {memory[name]:.0f} MB" for name in SCANS]
    return (
        memory,
        ratios,
        (
            f"{'; '.join(costs)}; plain / ours in time: median {statistics.median(ratios):.2f}, "
            f"{ratios[0]:.2f} to {ratios[-1]:.2f} in {PAIRS} pairs"
        ),
    )


@pytest.mark.bench
def test_the_scan_costs_less_time_and_memory_than_the_plain_one(monkeypatch: pytest.MonkeyPatch, note: Note) -> None:
    print(f"\nforward and backward, batch 2, {torch.get_num_threads()} thread(s), CPU time and peak memory")
    memory, ratios, line = compare(mixer_alone(), monkeypatch)
    print(f"  one mixer, 196 tokens: {line}")
    note("one mixer, 196 tokens, time of the plain scan over ours", ratios)
    assert statistics.median(ratios) > 1.5
    assert not memory["ours"] > memory["plain"]  # may be NaN
    memory, ratios, line = compare(whole_model(), monkeypatch)
    print(f"  MambaVision-T, 224 px: {line}")
    note("MambaVision-T, 224 px, time with the plain scan over ours", ratios)
    assert statistics.median(ratios) > 0.95  # the scan is a small part of it: a busy machine blurs the gain
    assert not memory["ours"] > memory["plain"]
