"""The adapters of a run without the weights below them, for peft; or why a run has none to take away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dinodiet.backbones.peft_export import Begun, peft_target
from dinodiet.backbones.trainable import parsed
from dinodiet.config.parent import begun_elsewhere
from dinodiet.run import checkpoint
from dinodiet.run.export.provenance import Provenance
from dinodiet.run.trained import Trained
from dinodiet.run.weights import below, read_apart
from dinodiet.types import ExportTarget, Unexportable


def apart(found: Trained) -> ExportTarget | Unexportable:
    """Return the target `peft` of the backbone of a run."""
    known = Provenance(found)
    if why := _lacks(known):
        return Unexportable(why)
    return peft_target(found.backbone, _begun(known), lambda: _state(found))


def _lacks(known: Provenance) -> str | None:
    """Return why there are no adapters that could be put onto the weights that a run began with."""
    if known.config is None:
        return f"no {known.found.run_dir.config.name} lies beside it, which says what was trained"
    word = str(known.config["method"].get("trainable", "all"))
    chosen = parsed(word)
    if not chosen.rank:
        return f"it was trained with method.trainable={word}, without adapters; choose lora_<r>"
    if known.parent() == "none":
        return "it began from scratch (model.weights=none), so that there are no weights to put adapters onto"
    for key, init in begun_elsewhere(known.config["method"]).items():
        return f"it began with other weights than its model's ({key}={init}), which adapters are not for"
    return None


def _begun(known: Provenance) -> Begun:
    weights, word = str(known.found.model.get("weights", "hub")), str((known.config or {})["method"]["trainable"])
    return Begun(weights if weights == "hub" else Path(weights).name, known.base_model(), parsed(word).blocks)


def _state(found: Trained) -> Mapping[str, Tensor]:
    """Return the state dict of a trained backbone with its adapters apart."""
    if found.step is None:
        return read_apart(found.run_dir.weights, found.tower)
    content = checkpoint.read(found.run_dir.checkpoint if found.place == found.run_dir.path else found.place)
    return below(content["encoder" if found.tower == "evaluated" else "trained"], content["method"])
