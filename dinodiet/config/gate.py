"""From what Hydra composed to the settings of a run; those of a run that is scored again are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dinodiet.config.groups import CHOICES, EVALUATION_DATASET
from dinodiet.config.settings import Settings, from_plain, read_settings, settings_of

# Keys that belong to the command and the machine, and never to the run that is scored.
COMMAND = (
    *("mode", "checkpoint", "device", "num_workers", "data_dir", "outputs_dir", "cache_dir", "decoded_gib"),
    *("log_every", "checkpoint_minutes", "retry", "detach", "compile", "grad_checkpointing"),
)


def gate(cfg: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str] = ()) -> Settings:
    """Return the checked settings of a run.

    Args:
        cfg: the composed configuration, without Hydra's own node.
        choices: the chosen group files.
        overrides: the words of the command line, which say what is to differ from a run that is scored again.

    Raises:
        UserError: one line that names the key, what was found and the valid choices.
    """
    settings = settings_of(cfg, choices)
    return _own_settings(settings, overrides) if settings.mode == "evaluate" and settings.checkpoint else settings


def _own_settings(given: Settings, overrides: Sequence[str]) -> Settings:
    """Return the configuration of the run that a checkpoint belongs to, with what the command line overrides."""
    place = Path(str(given.checkpoint)).expanduser()
    saved = read_settings((place if place.is_dir() else place.parent) / "config.yaml")
    if saved is None:
        print(f"{place} lies beside no config.yaml: the configuration given here is used", flush=True)
        return given
    plain, choices = saved
    moved = _moved(plain, str(plain["data_dir"]), given.data_dir)
    plain = {**moved, **{key: given.plain[key] for key in COMMAND}}
    changed = [word.lstrip("+~") for word in overrides if word.lstrip("+~").partition("=")[0] not in COMMAND]
    for word in changed:
        _take(word.partition("=")[0], given, plain, choices)
    told = f"; overridden: {' '.join(changed)}" if changed else ""
    print(f"scoring {place} with its own configuration{told}", flush=True)
    return from_plain(plain, choices)


def _take(key: str, given: Settings, plain: dict[str, Any], choices: dict[str, str]) -> None:
    """Put what the command line says of a key into a run's own configuration; another dataset is one to score."""
    if key in ("dataset", EVALUATION_DATASET):
        plain["eval"]["dataset"] = given.dataset if key == "dataset" else given.evaluation.dataset
        choices[EVALUATION_DATASET] = given.choices[key]
        return
    if key in CHOICES:
        plain[key] = given.plain[key]
        choices |= {key: given.choices[key]} if key in given.choices else {}  # of a list of files Hydra keeps none
        return
    node = OmegaConf.create(plain)
    if key.startswith("dataset."):
        if node.eval.get("dataset") is None:
            node.eval.dataset = node.dataset
        OmegaConf.update(node, f"eval.{key}", OmegaConf.select(OmegaConf.create(given.plain), key), force_add=True)
        choices.setdefault(EVALUATION_DATASET, choices["dataset"])
    else:
        OmegaConf.update(node, key, OmegaConf.select(OmegaConf.create(given.plain), key), force_add=True)
    plain.clear()
    plain.update(OmegaConf.to_container(node))  # type: ignore[arg-type]


def _moved(value: Any, before: str, now: str) -> Any:
    """Return plain values with paths below one data folder as paths below another."""
    if isinstance(value, Mapping):
        return {key: _moved(item, before, now) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, before, now) for item in value]
    if isinstance(value, str) and value.startswith(before.rstrip("/") + "/"):
        return now.rstrip("/") + value[len(before.rstrip("/")) :]
    return value
