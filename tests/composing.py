"""Hydra in a process that composes again and again: files that it has read stay parsed, and its copies cost little."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import sys
from pathlib import Path
from typing import Any, TypeVar

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

Config = TypeVar("Config")
_load, _get_mode = OmegaConf.load, Hydra.get_mode


def compose_quickly() -> None:
    """Let Hydra parse each text once in this process, share the sources that it never changes, and compose a run once.

    It copies the sources, only because it may put others in their place, and composes all to look for `hydra.mode`.
    """
    OmegaConf.load = staticmethod(_loaded)  # type: ignore[method-assign, assignment]
    ConfigRepository.__deepcopy__ = lambda self, memo: copy.copy(self)  # type: ignore[attr-defined]
    Hydra.get_mode = _mode  # type: ignore[method-assign]


def copied(cfg: Config) -> Config:
    """Return a copy of a configuration that shares nothing with it, in a fifth of the time of its own `copy`."""
    same: Config = pickle.loads(pickle.dumps(cfg))
    return same


def _mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Return what words say of `hydra.mode`: no file of `conf/` names it, but one of another folder may."""
    if any(word in given for given in (*overrides, *sys.argv[1:]) for word in ("hydra", "sweeps", "config")):
        return _get_mode(self, config_name, overrides)
    return None


def _loaded(file: Any) -> Any:
    text = Path(file).read_text(encoding="utf-8") if isinstance(file, (str, Path)) else file.read()
    try:
        return pickle.loads(_parsed(text))
    except Exception:  # told with the file's name
        return _load(file) if isinstance(file, (str, Path)) else _load(_named(text, file))


def _named(text: str, file: Any) -> io.StringIO:
    """Return a text as a file of a name."""
    again = io.StringIO(text)
    again.name = getattr(file, "name", "<file>")
    return again


@functools.cache
def _parsed(text: str) -> bytes:
    return pickle.dumps(_load(io.StringIO(text)))
