"""Whether two scores were measured alike: what was not is not subtracted. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What scores before and after a training must have in common.
COMPARED = (
    *("version", "trainable_parameters", "parameters", "steps", "batch_size", "lr", "seeds"),
    *("train_transform", "input", "drop_path", "mixing"),
    *("train_images", "val_images", "test_images", "test_labels", "precision"),
)
MOST_SHOWN = 60  # characters of a value


def difference(initial: Mapping[str, Any] | None, final: Mapping[str, Any] | None) -> str | None:
    """Return in what two protocols differ, in one line; None: they agree, or neither score has one."""
    if initial is None or final is None:
        return None if initial is final else "one side has no record of how it was measured"
    differing = [key for key in COMPARED if initial.get(key) != final.get(key)]
    told = ", ".join(f"{key} ({_shown(initial.get(key))} before, {_shown(final.get(key))} after)" for key in differing)
    return f"measured differently: {told}" if differing else None


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
