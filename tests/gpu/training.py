"""Some steps of a tiny run on a device, for tests."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from dinodiet.config.settings import settings_of
from dinodiet.run.parts import build_parts
from tests.contracts.choices import configuration, nodes, taught
from tests.contracts.test_methods import narrow, trained
from tests.running import CHOICES, TINY, composed

STEPS = 3
DRAWN = ("drop_path", "dropout")  # rates of what layers draw on the device


def losses(folder: Path, method: str, device: torch.device, *words: str) -> list[float]:
    """Return the losses of the first steps. Nothing is drawn on the device: it draws other numbers than the CPU."""
    own = any(word.startswith("model=") for word in words)
    base = [word for word in TINY if not (own and "model" in word)]
    given = [f"method={method}", *narrow(method), *taught(method), *undrawn(method), *words, f"device={device.type}"]
    given += [] if own else ["model.drop_path=0"]
    choices = {**CHOICES, "method": method}
    return trained(build_parts(settings_of(composed(folder, *given, base=base), choices)), STEPS)


@functools.cache
def undrawn(method: str) -> tuple[str, ...]:
    """Return the words that switch off what layers of a method draw."""
    composed: Any = OmegaConf.to_container(configuration(f"method={method}", *taught(method)).method)
    found = [f"{key}.{name}" for node, key in nodes(composed, "method") for name in node if name in DRAWN]
    return tuple(f"{key}=0" for key in found if not key.startswith("method.teacher.model."))


@functools.cache
def on_cpu(folder: Path, method: str, *words: str) -> list[float]:
    """Return the losses of the CPU; once for the words."""
    return losses(folder, method, torch.device("cpu"), *words)
