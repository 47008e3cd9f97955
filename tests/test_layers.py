"""The rules of the house: who knows Hydra, who may import whom, and that light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dinodiet"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# Each layer may import from those before it. Modules of the command line and the run stand above all parts.
LAYERS = [
    {"errors", "types", "rundir", "assets", "transfer"},
    {"status", "signature", "schedules", "environment", "optim", "trackers", "report", "explain", "help"},
    {"checkpoint", "build", "config", "backbones", "data"},
    {"evals"},
    {"methods"},
    {"train"},
    {"monitor", "parts"},
    {"modes"},
    {"run"},
    {"results", "sweep"},
    {"models"},
]
HYDRA = {"build", "config", "explain", "parts", "modes", "run", "sweep", "models"}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_layers(path: Path) -> None:
    own = layer_of(path)
    if own == "__init__":
        return
    level = next(number for number, names in enumerate(LAYERS) if own in names)
    allowed = {own}.union(*LAYERS[: level + 1])
    for name in imports(path):
        if name.startswith("dinodiet."):
            assert name.split(".")[1] in allowed, f"{own} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_run_knows_hydra(path: Path) -> None:
    if layer_of(path) not in HYDRA:
        assert not [name for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf")]


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["seed=ten"], ["+typo=1", "--cfg", "job"]])
def test_light_commands_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    (tmp_path / "timm.py").write_text("raise ImportError('timm was imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "was imported" not in done.stderr
    assert done.returncode == (1 if "seed=ten" in arguments else 0)
    assert done.stdout or done.stderr
