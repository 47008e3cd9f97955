"""The entry point: Hydra composes the configuration, `dinodiet.run` does the run. Starts without importing torch."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

SHOW_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here whole, to be told in one line
# Threads that wait should sleep: on a shared machine spinning ones make small steps several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hydra  # noqa: E402
from hydra.core.config_store import ConfigStore  # noqa: E402
from hydra.core.global_hydra import GlobalHydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from dinodiet.config import RunConfig, check, check_tuned  # noqa: E402
from dinodiet.errors import UserError  # noqa: E402
from dinodiet.explain import explain  # noqa: E402
from dinodiet.help import help_text  # noqa: E402

CONF = Path(__file__).resolve().parent / "conf"
ConfigStore.instance().store("schema", RunConfig)


FAILURES: list[str] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> dict[str, Any] | None:
    """Do one run. A failure is told and noted, not raised: in a grid, one bad cell costs one cell."""
    choices = HydraConfig.get().runtime.choices
    try:
        check(cfg)
        check_tuned(choices, GlobalHydra.instance().config_loader().get_group_options("tuned"))
        from dinodiet.run import run  # noqa: PLC0415 - `--help` and refusals need no torch

        return run(cfg, choices)
    except Exception as error:
        FAILURES.append(tell(error))
        return None


def tell(error: Exception) -> str:
    """Print an error, a user's mistake as one line and anything else with its traceback; return the line."""
    line = explain(error, sys.argv[1:], CONF)
    if SHOW_TRACEBACKS or not isinstance(error, (UserError, HydraException, OmegaConfBaseException)):
        traceback.print_exception(error)
    print(f"error: {line}", file=sys.stderr, flush=True)
    return line


def cli() -> int:
    """Run the command line and return its exit code."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text(CONF))
        return 0
    sys.path.append(str(Path.cwd()))  # parts of your own beside where you work can be named in _target_
    try:
        main()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        FAILURES.append(tell(error))
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(cli())
