"""The entry point: Hydra composes the configuration, `dinodiet.run` does the run. Starts without torch."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHOW_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here whole, to be told in one line
# Threads that wait should sleep: on a shared machine spinning ones make small steps several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parent
os.environ["DINODIET_ROOT"] = str(ROOT)  # conf/config.yaml finds sweeps/ by it
CONF = ROOT / "conf"

from dinodiet.config.help import help_text  # noqa: E402

if __name__ == "__main__" and {"--help", "-h"} & set(sys.argv[1:]):  # answered before anything is imported
    print(help_text(CONF))
    sys.exit(0)

import hydra  # noqa: E402
from hydra.core.config_store import ConfigStore  # noqa: E402
from hydra.core.global_hydra import GlobalHydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.core.plugins import Plugins  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from dinodiet.config.explain import explain  # noqa: E402
from dinodiet.config.schema import RunConfig, check, check_tuned  # noqa: E402
from dinodiet.errors import UserError  # noqa: E402
from dinodiet.run.finished import finished  # noqa: E402
from dinodiet.sweep.launchers.slurm_schema import SlurmConfig  # noqa: E402
from dinodiet.sweep.sweeper import GridSweeper  # noqa: E402

ConfigStore.instance().store("schema", RunConfig)
ConfigStore.instance().store("slurm_schema", SlurmConfig, group="hydra/launcher")
Plugins.instance().register(GridSweeper)

FAILURES: list[str] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> dict[str, Any] | None:
    """Do one run. A failure is told and noted, not raised: in a grid, one bad cell costs one cell."""
    choices = HydraConfig.get().runtime.choices
    try:
        check(cfg)
        check_tuned(choices, GlobalHydra.instance().config_loader().get_group_options("tuned"))
        check_alone(choices)
        if cfg.mode == "plan":
            from dinodiet.sweep.planning.plan import plan  # noqa: PLC0415
            from dinodiet.sweep.task import task_of  # noqa: PLC0415

            print(plan([task_of(cfg, choices)]))
            return None
        if cfg.mode == "fetch":
            from dinodiet.sweep.planning.fetch import fetch  # noqa: PLC0415
            from dinodiet.sweep.task import task_of  # noqa: PLC0415

            fetch([task_of(cfg, choices)])
            return None
        if (results := finished(cfg, choices)) is not None:
            return results
        from dinodiet.run.run import run  # noqa: PLC0415 - `--help`, refusals and what is done already need no torch

        return run(cfg, choices)
    except Exception as error:
        FAILURES.append(tell(error))
        return None


def check_alone(choices: Mapping[str, str | None]) -> None:
    """Refuse, for a single run, what only means something for a grid.

    Raises:
        UserError: says that -m is missing.
    """
    if choices["sweeps"] is not None:
        raise UserError(
            f"sweeps: {choices['sweeps']} is a grid; python launch.py -m sweeps={choices['sweeps']} runs it"
        )
    if choices["hydra/launcher"] != "local":
        raise UserError(f"hydra/launcher: {choices['hydra/launcher']} launches grids; add -m, also for a single run")


def tell(error: Exception) -> str:
    """Print an error, a user's mistake as one line and anything else with its traceback; return the line."""
    line = explain(error, [*sys.argv[1:], *GridSweeper.words], CONF)
    if SHOW_TRACEBACKS or not isinstance(error, (UserError, HydraException, OmegaConfBaseException)):
        traceback.print_exception(error)
    print(f"error: {line}", file=sys.stderr, flush=True)
    return line


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what Hydra itself is to see of the command line, and what is only for the cells of a grid."""
    options = [word for word in words if word in ("-m", "--multirun")]
    rest = [word for word in words if word not in options]
    if not options or {"--cfg", "-c", "--info", "-i"} & set(words):
        return [*options, *rest], []  # argparse wants the overrides together
    cells = [word for word in rest if "=" in word and not word.startswith(("-", "+hydra", "hydra", "sweeps="))]
    return [*options, *(word for word in rest if word not in cells)], cells


def cli() -> int:
    """Run the command line and return its exit code."""
    sys.argv[1:], GridSweeper.words = split_words(sys.argv[1:])
    sys.path.append(str(Path.cwd()))  # parts of your own beside where you work can be named in _target_
    try:
        main()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        FAILURES.append(tell(error))
    except ValueError as error:  # Hydra's own word on options that exclude each other
        FAILURES.append(tell(UserError(str(error))))
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(cli())
