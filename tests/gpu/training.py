"""Some steps of a tiny run on a device, for tests."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from dinodiet.config.settings import settings_of
from dinodiet.run.parts import build_parts
from tests.contracts.choices import taught
from tests.contracts.test_methods import narrow, trained
from tests.running import CHOICES, TINY, composed

STEPS = 3


def losses(folder: Path, method: str, device: torch.device, *words: str) -> list[float]:
    """Return the losses of the first steps. Nothing is drawn on the device: it draws other numbers than the CPU."""
    own = any(word.startswith("model=") for word in words)
    base = [word for word in TINY if not (own and "model" in word)]
    given = [f"method={method}", *narrow(method), *taught(method), *words, f"device={device.type}"]
    given += [] if own else ["model.drop_path=0"]
    choices = {**CHOICES, "method": method}
    return trained(build_parts(settings_of(composed(folder, *given, base=base), choices)), STEPS)


@functools.cache
def on_cpu(folder: Path, method: str, *words: str) -> list[float]:
    """Return the losses of the CPU; once for the words."""
    return losses(folder, method, torch.device("cpu"), *words)
