"""The configuration of a run as the file that lies in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dinodiet.config.groups import NODES
from dinodiet.config.schema import EXCHANGE
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError, one_line
from dinodiet.io.documents import yaml_text
from dinodiet.io.files import write_atomically, write_text


def write_settings(settings: Settings, path: Path) -> None:
    """Write the resolved configuration as YAML, with the choices that it was composed of."""
    text = OmegaConf.to_yaml(OmegaConf.create({**settings.plain, "choices": settings.choices}))
    write_atomically(path, lambda stream: write_text(stream, text))


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Return the plain values and the choices that `write_settings` wrote; None where there is no such file.

    Raises:
        UserError: it is broken, or nothing that a run wrote; names the file.
    """
    try:
        plain = OmegaConf.to_container(OmegaConf.create(yaml_text(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (YAMLError, OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path}: {one_line(error)}") from error
    choices = plain.pop("choices", None) if isinstance(plain, dict) else None
    if not isinstance(plain, dict) or not isinstance(choices, dict):
        raise UserError(f"{path}: no configuration of a run, which says what it was chosen from (choices)")
    if missing := [key for key in (*NODES, "seed") if key not in plain]:
        raise UserError(f"{path}: no configuration of a run: it lacks {', '.join(missing)}")
    found = {**EXCHANGE, **{str(key): value for key, value in plain.items()}}
    return found, {str(key): str(word) for key, word in choices.items()}
