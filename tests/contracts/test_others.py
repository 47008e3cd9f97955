"""What the files of conf/tracker, conf/hydra/launcher and conf/tuned keep to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from dinodiet.config.build import build
from dinodiet.config.schema import RunConfig
from dinodiet.sweep.drive import Launcher
from dinodiet.sweep.launchers.slurm_schema import SlurmConfig
from dinodiet.types import Tracker
from tests.contracts.choices import configuration, names, node, settings
from tests.places import CONF


@pytest.fixture
def loader() -> Iterator[Any]:
    ConfigStore.instance().store("schema", RunConfig)
    ConfigStore.instance().store("slurm_schema", SlurmConfig, group="hydra/launcher")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.mark.parametrize("name", names("hydra/launcher"))
def test_a_launcher_is_built_from_its_file(name: str, loader: Any) -> None:
    config = loader.load_configuration("config", [f"hydra/launcher={name}"], run_mode=RunMode.MULTIRUN)
    launcher = build(config.hydra.launcher, "hydra.launcher")()
    assert isinstance(launcher, Launcher)
    assert isinstance(launcher.in_process, bool)


@pytest.mark.parametrize("name", names("tracker"))
def test_a_tracker_hears_of_a_run_from_beginning_to_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")  # nothing of a test leaves the machine
    monkeypatch.chdir(tmp_path)
    chosen = node("tracker", name)
    tracker = build({**chosen, **({"mode": "disabled"} if "mode" in chosen else {})}, "tracker", Tracker)()
    tracker.start("run", settings(tmp_path).plain, tmp_path)
    tracker.log({"loss": 1.0}, 1)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    tracker.table("table", tmp_path / "table.csv")
    tracker.finish({"final/knn/accuracy": 0.5})


@pytest.mark.parametrize("name", [name for name in names("tuned") if name != "none"])
def test_tuned_settings_change_something_that_is_there(name: str) -> None:
    dataset, method = name.split("_", 1)
    base = ("model=vit_tiny", f"dataset={dataset}", f"method={method}")
    tuned, plain = (configuration(base=(*base, f"tuned={choice}")) for choice in (name, "none"))
    assert tuned != plain
    parts = {"defaults", "dataset", "method", "model", "schedule"}
    assert set(map(str, OmegaConf.load(CONF / "tuned" / f"{name}.yaml"))) <= parts
