"""Memory of a process for a head of a million classes that is spread over two: weight, gradient, AdamW's state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dinodiet.methods.parts.heads import ClassHead
from tests.bench.rows import Note
from tests.processes.started import on_processes

CLASSES, WIDTH, BATCH = 1_000_000, 64, 64


def held(what: str) -> int:
    """Return a number of bytes that Linux tells of this process: VmRSS is held now, VmHWM was held at the most."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) * 1024


def steps(classes: int) -> None:
    head = ClassHead(WIDTH, classes, sharded=True)
    optimizer = torch.optim.AdamW(head.parameters(), fused=True)
    for _ in range(2):
        logits = head(torch.randn(BATCH, WIDTH))
        torch.autograd.backward(logits.cross_entropy(torch.arange(BATCH), label_smoothing=0.2))
        optimizer.step()
        optimizer.zero_grad()


def peak() -> int:
    """Return what two steps take at the most, above what a process holds that has trained a small head."""
    steps(BATCH)
    before = held("VmRSS")
    steps(CLASSES)
    return held("VmHWM") - before


@pytest.mark.slow
def test_two_processes_hold_half_a_head_each(note: Note, tmp_path: Path) -> None:
    (whole,), halves = (on_processes(count, tmp_path / str(count), peak) for count in (1, 2))
    said = f"{whole / 2**20:,.0f} MiB, of two each {max(halves) / 2**20:,.0f} MiB"
    print(f"\nhead of {CLASSES:,} x {WIDTH}, memory of one process {said}")
    note(f"head of {CLASSES:,} x {WIDTH}, memory of one process and of each of two", said)
    assert whole >= 4 * 4 * CLASSES * WIDTH
    assert max(halves) <= 0.6 * whole
