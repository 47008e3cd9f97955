"""Errors of Hydra and OmegaConf in one line: the key, what was found, the valid choices. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinodiet.config.groups import CHOICES
from dinodiet.config.places import CONF, ROOT, own_folders
from dinodiet.errors import UserError, one_line


def explain(error: BaseException, words: Sequence[str]) -> str:
    """Return an error as one line; by the words of the command line, an unknown key is answered with its neighbours."""
    if isinstance(error, UserError):
        return one_line(error)
    text, cause = str(error), error.__cause__
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        return _unknown_option(option[1], option[2], text)
    if key := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(key[1], words)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {text.splitlines()[0]}"
    if override := getattr(error, "override", None):
        return f"{override}: cannot be read as key=value; quote values with special characters: 'key=\"value\"'"
    return one_line(error)


def _unknown_option(group: str, option: str, text: str) -> str:
    choices = re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
    shown = ", ".join(choice for choice in choices if not choice.startswith("_"))
    return f"{group}: no choice {option!r}; choose from: {shown}" if shown else f"{group}: no choice {option!r}"


def _unknown_key(key: str, words: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    node = _compose(words)
    node = OmegaConf.select(node, parent) if parent and node is not None else node
    if not isinstance(node, DictConfig):
        return f"{key}: no such key"
    choices = sorted(choice for choice in map(str, node) if not choice.startswith("_"))
    more = f" (an argument of its _target_ that the file leaves out: +{key}=...)" if "_target_" in node else ""
    return f"{key}: no such key {name!r} here; choose from: {', '.join(choices)}{more}"


def _compose(words: Sequence[str]) -> DictConfig | None:
    """Return the configuration with only the group choices of the command line, or None where even these fail."""
    from hydra import compose, initialize_config_dir  # noqa: PLC0415
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415

    choices = [word for word in words if word.split("=")[0] in CHOICES and "," not in word]
    places = ",".join(f"'file://{folder}'" for folder in (ROOT, *own_folders(words)))
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", overrides=[f"hydra.searchpath=[{places}]", *choices])
    except (HydraException, OmegaConfBaseException):
        return None
