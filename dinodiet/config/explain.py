"""Errors of Hydra and OmegaConf in one line: the key, what was found, the valid choices. Imports no torch.

Their own words say neither which word of the command line is to blame nor what may stand there. The words are therefore
tried again one after another: the first that cannot be composed is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from dinodiet.config import words as one_word
from dinodiet.config.places import CONF, ROOT, own_folders
from dinodiet.errors import UserError, one_line


def explain(error: BaseException, words: Sequence[str]) -> str:
    """Return an error as one line: of an error of Hydra, what is wrong with the word of the command line behind it."""
    if isinstance(error, UserError):
        return one_line(error)
    return (_fault_of(words) if words else None) or told(error)


def told(error: BaseException) -> str:
    """Return an error of Hydra, OmegaConf or YAML as one line where no word is to blame, but a file."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    for one in causes:
        if isinstance(one, MarkedYAMLError) and one.problem_mark is not None:
            return f"{one.problem_mark.name}, line {one.problem_mark.line + 1}: {one.problem}"
        if isinstance(one, OmegaConfBaseException) and one.full_key:
            return f"{one.full_key}: {one_word.first_line(one)}"
    said = next((one for one in causes if one_word.first_line(one)), error)
    return one_line(Exception(str(said).partition("Config search path")[0])) if str(said) else type(said).__name__


def fault(words: Sequence[str], loader: Any, compose: Callable[[list[str]], DictConfig]) -> str | None:
    """Return what is wrong with the first word that cannot be composed; None where all can.

    Args:
        words: overrides.
        loader: Hydra's.
        compose: returns the configuration of the words that choose files, to be changed here.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl  # noqa: PLC0415

    parsed, wrong = one_word.parse(words, loader)
    if wrong is not None:
        return wrong
    groups = [override for override in parsed if one_word.chooses(override, loader)]
    for override in groups:
        if (wrong := one_word.choice_fault(override, loader)) is not None:
            return wrong
    try:
        composed = compose([str(override.input_line) for override in groups])
    except Exception:  # else a file is to blame
        return one_word.without_place(groups)
    for override in parsed:
        if override in groups or override.is_sweep_override():
            continue
        try:
            ConfigLoaderImpl._apply_overrides_to_config([override], composed)
        except Exception as error:
            return one_word.value_fault(override, composed, error)
    return None


def _several(override: Any) -> str:
    """Return what is wrong with several values where a single run is asked for."""
    return f"{override.key_or_group}: {str(override.input_line).partition('=')[2]} are several; add -m to run each"


def _fault_of(words: Sequence[str]) -> str | None:
    """Return what is wrong with a command line, composed with a loader of its own."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl  # noqa: PLC0415
    from hydra._internal.utils import create_config_search_path, get_args_parser  # noqa: PLC0415
    from hydra.core.config_search_path import SearchPathQuery  # noqa: PLC0415
    from hydra.types import RunMode  # noqa: PLC0415

    places = create_config_search_path(str(CONF))
    for folder in (ROOT, *own_folders(words)):
        places.append("dinodiet", f"file://{folder}", anchor=SearchPathQuery(provider="main"))  # before the schema's
    loader = ConfigLoaderImpl(config_search_path=places)

    def compose(files: list[str]) -> DictConfig:
        return loader.load_configuration("config", files, RunMode.RUN, from_shell=False)

    given = get_args_parser().parse_args(list(words))
    if wrong := fault(given.overrides, loader, compose):
        return wrong
    several = [one for one in one_word.parse(given.overrides, loader)[0] if one.is_sweep_override()]
    return _several(several[0]) if several and not given.multirun else None
