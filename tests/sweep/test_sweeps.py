"""The grids in sweeps/: they expand to what their headers say, and every cell can be built."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from dinodiet.config.schema import RunConfig
from dinodiet.errors import UserError
from dinodiet.sweep.launchers.slurm_schema import SlurmConfig
from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.sweep.planning.plan import plan
from dinodiet.sweep.sweeper import GridSweeper
from tests.kinds import rest_nightly
from tests.places import ROOT

SWEEPS = sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml"))
SHIPPED = {
    *("smoke", "backbones_x_medmnist", "diet_vs_dino", "label_smoothing"),
    *("trained_blocks", "data_ablation", "crop_ratio", "vit_sizes"),
}
ESTIMATOR = Estimator()  # models that several sweeps share are built once


@pytest.fixture(scope="module", autouse=True)
def hydra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("sweeps")
    ConfigStore.instance().store("schema", RunConfig)
    ConfigStore.instance().store("slurm_schema", SlurmConfig, group="hydra/launcher")
    Plugins.instance().register(GridSweeper)
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        patch.setenv("DINODIET_ROOT", str(ROOT))
        patch.setenv("DINODIET_DATA", str(folder / "data"))  # nothing is there: sizes are taken as published
        patch.chdir(folder)
        patch.setattr(
            "dinodiet.sweep.planning.built.needs", lambda *_, **__: None
        )  # seconds a model; see test_activations.py
        yield


@functools.cache
def sweeper(name: str, *overrides: str) -> GridSweeper:
    """Return the sweeper as `launch.py -m sweeps=NAME` sets it up."""
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration("config", [f"sweeps={name}", *overrides], run_mode=RunMode.MULTIRUN)
    values: Any = {key: value for key, value in config.hydra.sweeper.items() if key != "_target_"}
    found = GridSweeper(**values)
    found.setup(hydra_context=HydraContext(loader, None), task_function=lambda _: None, config=config)  # type: ignore[arg-type]
    return found


def header(name: str) -> str:
    lines = (ROOT / "sweeps" / f"{name}.yaml").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


def diagonal(grid: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return few cells of a grid that hold every value of every axis but the seed's."""
    if len({tuple(word.partition("=")[0] for word in cell) for cell in grid}) > 1:  # values that belong together
        return _covering([cell for cell in grid if "seed=0" in cell])
    axes = [list(dict.fromkeys(values)) for values in zip(*grid, strict=True)]
    axes = [axis[:1] if axis[0].startswith("seed=") else axis for axis in axes]
    return [[axis[i % len(axis)] for axis in axes] for i in range(max(map(len, axes)))]


def _covering(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the cells that have a word which none before them has."""
    seen: set[str] = set()
    return [list(cell) for cell in cells if not seen.issuperset(cell) and not seen.update(cell)]  # type: ignore[func-returns-value]


def test_all_studies_are_there() -> None:
    assert set(SWEEPS) >= SHIPPED


@pytest.mark.parametrize("name", SWEEPS)
def test_header_says_how_many_runs_and_how_to_start_them(name: str) -> None:
    text = header(name)
    (stated,) = re.findall(r"([\dx =]*\d+) runs", text)
    factors, _, product = stated.rpartition("=")
    count = len(sweeper(name).expand([f"sweeps={name}"]))
    assert int(product) == count
    if factors:
        lengths = [int(factor) for factor in factors.split("x")]
        assert eval("*".join(map(str, lengths))) == count
    assert f"launch.py -m sweeps={name}" in text


@pytest.mark.parametrize("name", SWEEPS)
def test_file_has_its_name_and_is_short(name: str) -> None:
    path = ROOT / "sweeps" / f"{name}.yaml"
    assert OmegaConf.select(OmegaConf.load(path), "name") == name
    assert path.read_text().startswith("# @package _global_\n")
    assert len(path.read_text().splitlines()) <= (60 if "  parts:" in path.read_text() else 18)


@pytest.mark.parametrize("name", rest_nightly(SWEEPS, ["smoke"]))
def test_every_value_of_every_axis_builds(name: str) -> None:
    grid = sweeper(name)
    for task in grid.tasks(diagonal(grid.expand([f"sweeps={name}"]))):
        assert task.study.name == name
        found = ESTIMATOR(task.settings())
        assert (found.steps == 0) == (task.cell.choices["method"] == "frozen")
        assert found.parameters
        assert found.memory
        assert found.memory > 4 * found.parameters


def test_the_command_line_beats_the_file() -> None:
    given = ["sweeps=smoke", "schedule.epochs=7", "model=vit_tiny", "name=mine", "dataset.limit=100"]
    grid = sweeper("smoke", *given[1:])
    cells = grid.expand(given)
    assert sorted(word for cell in cells for word in cell if word.startswith("method=")) == [
        "method=diet",
        "method=dino",
    ]
    assert {word for cell in cells for word in cell if word.startswith("model=")} == {"model=vit_tiny"}
    for task in grid.tasks(cells):
        assert task.config["schedule"]["epochs"] == 7
        assert task.config["dataset"]["limit"] == 100
        assert task.config["eval"]["validation"] is False  # of the file, and not of config.yaml
        assert task.study.name == "mine"


def test_equal_terms_for_both_methods() -> None:
    grid = sweeper("diet_vs_dino")
    cells = [
        ["sweeps=diet_vs_dino", f"method={method}", "model=mae", "dataset=pathmnist"] for method in ("diet", "dino")
    ]
    diet, dino = (ESTIMATOR(task.settings()) for task in grid.tasks(cells))
    assert (diet.steps, diet.trained) == (dino.steps, dino.trained) == (4650, diet.trained)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            "method.loss.label_smoothing=0.1,1.5,-0.3",
            ["method.loss.label_smoothing: 1.5", "method.loss.label_smoothing: -0.3"],
        ),
        (
            "method.loss.label_smoothing=0.1,much,few",
            ["method.loss.label_smoothing: 'much'", "method.loss.label_smoothing: 'few'"],
        ),
        ("model=vit_tiny,mea", ["model=mea", "model: no choice 'mea'"]),
        ("dataset=breastmnist,pathmnist", ["dataset=breastmnist", "dataset.limit: 1000; 546 images"]),
        ("model.size=tiny,huge", ["model.size=huge", "model.size: 'huge'; choose from"]),
        ("method.labl=3,4", ["method.labl=3", "method.labl=4"]),
    ],
)
def test_impossible_cells_are_all_named(overrides: str, words: list[str]) -> None:
    """Some are refused when the grid is composed, the others when it is planned: nothing has been started."""
    grid = sweeper("label_smoothing")
    single = ("model=vit_tiny", "dataset=dermamnist", "method.loss.label_smoothing=0.2", "seed=0")
    kept = [word for word in single if not overrides.startswith(word.partition("=")[0] + "=")]
    with pytest.raises(UserError) as caught:
        plan(grid.tasks(grid.expand(["sweeps=label_smoothing", *kept, overrides])))
    told = "; ".join([str(caught.value), *getattr(caught.value, "lines", [])])
    for word in words:
        assert word in told
    assert "\n" not in told
    assert not Path("outputs").exists()
