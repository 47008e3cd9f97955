"""What the command line does: Hydra composes a configuration, then a run is done, or the sweeper gets a grid."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinodiet.config.calls import quote_calls
from dinodiet.config.explain import explain
from dinodiet.config.gate import gate
from dinodiet.config.groups import LAUNCHER, SWEEPS
from dinodiet.config.places import CONF, own_folders, program
from dinodiet.config.schema import LONGEST, RunConfig
from dinodiet.config.tuned import with_tuned
from dinodiet.config.words import as_choice, check_chosen, check_one, quoted
from dinodiet.errors import MachineLimit, ManyReasons, UserError, printable
from dinodiet.io.command import discard_output
from dinodiet.io.leaving import leave_quietly
from dinodiet.io.limits import limit_of
from dinodiet.run.finished import finished
from dinodiet.store.status import Preempted
from dinodiet.sweep.ahead import AHEAD
from dinodiet.sweep.hold import QUEUE_MODES
from dinodiet.sweep.launchers.slurm_schema import SlurmConfig
from dinodiet.sweep.sweeper import GridSweeper
from dinodiet.sweep.task import task_of
from dinodiet.sweep.told import Told

INTERRUPTED = 130  # what a shell reports of a command that Ctrl-C ended


def run_command_line(words: list[str], *, show_tracebacks: bool = False) -> int:
    """Do what the words after the command's name say, and return the exit code."""
    register()
    sys.argv[1:], GridSweeper.words = split_words(words)
    sys.path.append(str(Path.cwd()))  # parts of your own in the folder where you work can be named in _target_
    try:
        check_options(sys.argv[1:])
        main()
    except Exception as error:  # from Hydra, before it came to a run or a grid
        return tell(error, sys.argv[1:], show_tracebacks)
    except Told as told:
        return tell(told.error, None, show_tracebacks)
    except KeyboardInterrupt:
        leave_quietly()
        print("stopped; the same command continues", file=sys.stderr, flush=True)
        return INTERRUPTED
    except Preempted as left:
        leave_quietly()
        where = "" if left.step is None else f" at step {left.step}"
        print(f"stopped by {left.signal_name}{where}; the same command continues", file=sys.stderr, flush=True)
        return left.EXIT_CODE
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0


def check_options(words: list[str]) -> None:
    """Refuse options that Hydra would answer with its usage, or pass over.

    Raises:
        UserError: one line that names the option.
    """
    parser = get_args_parser()
    parser.error = _refuse_option  # type: ignore[method-assign]
    for word in parser.parse_args(words).overrides:
        if len(os.fsencode(key := word.partition("=")[0])) > LONGEST:  # Hydra would look for a file of that name
            raise UserError(f"{printable(key[:40])}...: no such key")
    check_one(words)
    for folder in own_folders(words):
        if not folder.is_dir():
            raise UserError(f"--config-dir: {folder} is no folder")


def _refuse_option(message: str) -> NoReturn:
    raise UserError(f"{message}; see --help")


def register() -> None:
    """Tell Hydra of the schemas and the sweeper."""
    ConfigStore.instance().store("schema", RunConfig)
    ConfigStore.instance().store("slurm_schema", SlurmConfig, group="hydra/launcher")
    Plugins.instance().register(GridSweeper)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> None:
    """Do one run. A grid never comes here: Hydra hands it to the sweeper.

    Raises:
        Told: carries whatever went wrong.
    """
    try:
        single(cfg, HydraConfig.get().runtime.choices)
    except Exception as error:
        raise Told(error) from error


def single(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Check the configuration of one run and do what its mode says.

    Raises:
        UserError: it is refused, before torch is imported.
        Exception: as the run.
    """
    check_alone(choices)
    if cfg.mode in QUEUE_MODES:
        raise UserError(f"mode: {cfg.mode} is for the jobs of a grid; add -m")
    overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    loader = GlobalHydra.instance().config_loader()
    check_chosen(choices, overrides, loader)
    choices = with_tuned(choices, loader)
    if cfg.mode in AHEAD:
        AHEAD[cfg.mode]([task_of(cfg, choices, overrides)], None, None)
        return
    settings = gate(cfg, choices, overrides)
    if finished(settings) is None:
        from dinodiet.run.run import run  # noqa: PLC0415 - `--help`, refusals and what is done already need no torch

        run(settings)


def check_alone(choices: Mapping[str, str | None]) -> None:
    """Refuse, for a single run, what only means something for a grid.

    Raises:
        UserError: says that -m is missing.
    """
    if choices.get(SWEEPS) is not None:
        raise UserError(f"sweeps: {choices[SWEEPS]} is a grid; {program()} -m sweeps={choices[SWEEPS]} runs it")
    if (launcher := choices.get(LAUNCHER)) not in ("local", None):
        raise UserError(f"{LAUNCHER}: {launcher} launches grids; add -m, also for a single run")


def tell(error: Exception, words: list[str] | None, show_tracebacks: bool) -> int:
    """Print an error, a user's mistake as a line, or one a reason, all else with its traceback; return the exit code.

    `words` are those that Hydra could not compose: whatever it raised is a mistake in them, or in a file.
    """
    error = limit_of(error) or error
    if show_tracebacks or not (
        words is not None or isinstance(error, (UserError, HydraException, OmegaConfBaseException))
    ):
        traceback.print_exception(error)
    lines = error.lines if isinstance(error, ManyReasons) else []
    print("\n  ".join([f"error: {explain(error, words or [])}", *lines]), file=sys.stderr, flush=True)
    discard_output()
    return error.EXIT_CODE if isinstance(error, MachineLimit) else 1


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what Hydra itself is to see of the command line, and what is only for the cells of a grid."""
    words = [as_choice(quote_calls(quoted(word))) for word in words]
    options = [word for word in words if word in ("-m", "--multirun")]
    rest = [word for word in words if word not in options]
    if not options or {"--cfg", "-c", "--info", "-i"} & set(words):
        return [*options, *rest], []  # argparse wants the overrides together
    hydras = ("-", "+hydra", "++hydra", "~hydra", "hydra", "sweeps=", "+sweeps=", "~sweeps")
    cells = [word for word in rest if ("=" in word or word.startswith("~")) and not word.startswith(hydras)]
    return [*options, *(word for word in rest if word not in cells)], cells
