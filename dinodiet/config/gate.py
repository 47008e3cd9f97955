"""From what Hydra composed to the settings of a run; those of a run that is scored again are its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dinodiet.config.groups import CHOICES, EVALUATION_DATASET, REFERENCE_DATASET, TEACHER_MODEL
from dinodiet.config.rates import in_steps
from dinodiet.config.saved import read_settings
from dinodiet.config.settings import Settings, settings_of
from dinodiet.config.several import MODES, check_several
from dinodiet.config.trust import check_trusted
from dinodiet.errors import UserError

# Keys that belong to the command and the machine, and never to the run that is scored.
COMMAND = (
    *("mode", "checkpoint", "tower", "export", "export_dir", "device", "processes", "strategy", "num_workers"),
    *("data_dir", "outputs_dir", "cache_dir", "decoded_gib", "log_every", "checkpoint_minutes", "retry"),
    *("detach", "prune", "check_inputs", "trust_targets"),
    *("figures", "compile", "deterministic", "grad_checkpointing", "views", "embed", "landscape", "keep_every_epochs"),
)
# Modes that do something with a run that is there.
DOING = {
    "views": "views of",
    "evaluate": "scoring",
    "export": "exporting",
    "embed": "embedding with",
    "landscape": "a landscape of",
    "fetch": "fetching for",
}


def gate(
    cfg: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str] = (), *, quiet: bool = False
) -> Settings:
    """Return the checked settings of a run.

    Args:
        cfg: the composed configuration, without Hydra's own node.
        choices: the chosen group files.
        overrides: the words of the command line, which say what is to differ from a run that is scored again.
        quiet: do not print whose configuration is used.

    Raises:
        UserError: one line that names the key, what was found and the valid choices.
    """
    return pass_on(settings_of(cfg, choices), overrides, quiet=quiet)


def pass_on(settings: Settings, overrides: Sequence[str] = (), *, quiet: bool = False) -> Settings:
    """Return what a run's settings become behind the gate; see `gate`."""
    own = settings.mode in DOING and settings.checkpoint
    if settings.mode in MODES:
        check_several(settings.plain, settings.processes or 1)
    return _own_settings(settings, overrides, quiet=quiet) if own else in_steps(settings)


def _own_settings(given: Settings, overrides: Sequence[str], *, quiet: bool) -> Settings:
    """Return the configuration of the run that a checkpoint belongs to, with what the command line overrides."""
    place = Path(str(given.checkpoint)).expanduser()
    where = (place if place.is_dir() else place.parent) / "config.yaml"
    saved = read_settings(where)
    if saved is None and given.mode == "fetch":
        found = "lies beside no config.yaml, which says what its run needs" if place.exists() else "does not exist"
        raise UserError(f"checkpoint: {place} {found}")
    if saved is None:
        _tell(f"{place} lies beside no config.yaml: the configuration given here is used", quiet)
        return given
    plain, choices = saved
    if not given.trust_targets:
        check_trusted(plain, str(where), given.plain)
    moved = _moved(plain, str(plain.get("data_dir", given.data_dir)), given.data_dir)
    plain = {**moved, **{key: given.plain[key] for key in COMMAND}}
    changed = [word for word in overrides if _top(word) not in (*COMMAND, "tuned")]  # it tunes trainings alone
    for word in sorted(changed, key=lambda word: not word.startswith("eval=")):  # which holds the dataset to score
        _take(word, given, plain, choices)
    told = f"; overridden: {' '.join(changed)}" if changed else ""
    _tell(f"{DOING[given.mode]} {place} with its own configuration{told}", quiet)
    return _named(plain, choices, str(where))


def _tell(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, flush=True)


def _top(word: str) -> str:
    """Return the first part of the key of a word."""
    return word.lstrip("+~").partition("=")[0].partition(".")[0]


def _named(plain: dict[str, Any], choices: Mapping[str, Any], where: str) -> Settings:
    """Return settings; what is wrong with them is told with the file that they are from."""
    try:
        return settings_of(OmegaConf.create(plain), choices)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _take(word: str, given: Settings, plain: dict[str, Any], choices: dict[str, str]) -> None:
    """Put what the command line says of a key into a run's own configuration; another dataset is one to score."""
    key = word.lstrip("+~").partition("=")[0]
    if key in ("dataset", EVALUATION_DATASET):
        plain["eval"]["dataset"] = given.dataset if key == "dataset" else given.evaluation.dataset
        choices[EVALUATION_DATASET] = given.choices[key]
    elif key in (REFERENCE_DATASET, TEACHER_MODEL):
        place = key.partition("@")[2]
        _set(plain, place, _get(given.plain, place))
        choices |= {key: given.choices[key]} if key in given.choices else {}
    elif key in CHOICES:
        plain[key] = dict(given.plain[key])
        choices |= {key: given.choices[key]} if key in given.choices else {}  # of a list of files Hydra keeps none
    elif key.startswith("dataset."):
        plain["eval"]["dataset"] = copy.deepcopy(plain["eval"].get("dataset") or plain["dataset"])
        choices.setdefault(EVALUATION_DATASET, choices["dataset"])
        _set(plain, f"eval.{key}", _get(given.plain, key))
    elif word.startswith("~"):
        _get(plain, key.rpartition(".")[0]).pop(key.rpartition(".")[2], None)
    else:
        _set(plain, key, _get(given.plain, key))


def _get(plain: dict[str, Any], key: str) -> Any:
    """Return the value of a dotted key; an empty dictionary where there is none."""
    value: Any = plain
    for name in filter(None, key.split(".")):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value


def _set(plain: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key; what lies on the way is made."""
    *parents, last = key.split(".")
    for name in parents:
        plain = plain.setdefault(name, {})
    plain[last] = value


def _moved(value: Any, before: str, now: str) -> Any:
    """Return plain values with paths below one data folder as paths below another."""
    if isinstance(value, Mapping):
        return {key: _moved(item, before, now) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, before, now) for item in value]
    if isinstance(value, str) and value.startswith(before.rstrip("/") + "/"):
        return now.rstrip("/") + value[len(before.rstrip("/")) :]
    return value
