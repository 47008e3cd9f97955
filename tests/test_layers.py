"""Rules of the architecture: who knows Hydra, who may import whom, and that light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dinodiet.config.identity import wanted_scores
from dinodiet.config.settings import settings_of
from dinodiet.io.files import write_json
from dinodiet.run.finished import run_dir_of
from dinodiet.store.scores import FORMAT
from tests.places import ROOT
from tests.running import CHOICES, TINY, composed

PACKAGE = ROOT / "dinodiet"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# Each folder may import from those before it; folders of one line know nothing of each other.
ORDER = [
    {"errors", "processes", "types"},
    {"io"},
    {"config"},
    {"schedules"},
    {"store"},
    {"results"},
    {"data"},
    {"backbones"},
    {"features"},
    {"methods"},
    {"training"},
    {"evals"},  # one that trains (fine-tuning) uses the one loop
    {"run"},
    {"sweep"},
    {"catalogue"},
]
VOCABULARY = ORDER[0]  # files of one line that do know each other
# What runs what it reads, or may; and what must be said to calls that may.
RUNS = {"exec", "extractall", "extract_archive", "hub.load", "read_pickle", "Unpickler"}
RUNS |= {f"{module}.load{s}" for module in ("pickle", "dill", "joblib", "marshal") for s in ("", "s")}
RUNS |= {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}
SAID = {
    "np.load": ("allow_pickle", False),
    "npy.read_array": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}
PICKLES = "backbones/weights/pickles.py"  # reads them without running them; its tests show it
HYDRA = {"config", "sweep", "catalogue"}  # what composes; a run is handed plain settings
MOST_LINES, MOST_ARGUMENTS, MOST_ENTRIES = 60, 10, 17


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


def modules_of(layer: str) -> list[Path]:
    return [path for path in MODULES if layer_of(path) == layer]


@pytest.mark.parametrize("own", sorted(set(map(layer_of, MODULES)) - {"__init__"}))
def test_imports_keep_the_order_of_the_folders(own: str) -> None:
    level = next(number for number, names in enumerate(ORDER) if own in names)
    allowed = {own}.union(*ORDER[:level], VOCABULARY if own in VOCABULARY else set())
    for path in modules_of(own):
        others = {name for name in imports(path) if name.startswith("dinodiet.") and name.split(".")[1] not in allowed}
        assert not others, f"{path} must not import {others}"


def test_a_newcomer_finds_the_folders() -> None:
    folders = {path.name for path in PACKAGE.iterdir()} - {"__init__.py", "__pycache__", "README.md", "py.typed"}
    assert folders == {path if (PACKAGE / path).is_dir() else f"{path}.py" for path in set().union(*ORDER)}


@pytest.mark.parametrize("own", sorted(set(map(layer_of, MODULES)) - HYDRA))
def test_only_what_composes_knows_hydra(own: str) -> None:
    for path in modules_of(own):
        known = [name for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf", "hydra_plugins")]
        assert not known, f"{path} imports {known}"


def test_every_folder_that_may_know_hydra_needs_it() -> None:
    needs = {
        layer_of(path) for path in MODULES for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf")
    }
    assert needs == HYDRA


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("own", sorted(set(map(layer_of, MODULES))))
def test_functions_are_short(own: str) -> None:
    lengths = {
        f"{path}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in modules_of(own)
        for node in functions(path)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize(
    "path",
    [*(PACKAGE / "methods").rglob("*.py"), *(PACKAGE / "data" / "views").rglob("*.py")],
    ids=lambda path: path.stem,
)
def test_constructors_of_methods_and_views_have_few_arguments(path: Path) -> None:
    for node in functions(path):
        if node.name == "__init__":
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]
            assert len(arguments) <= MOST_ARGUMENTS, f"{path.name}:{node.lineno}"


def test_the_root_of_the_package_is_no_drawer() -> None:
    assert len(set().union(*ORDER)) <= MOST_ENTRIES


def light_command(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run launch.py where torch and timm cannot be imported."""
    for name in ("torch", "timm"):
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} was imported')")
    return subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["+typo=1", "--cfg", "job"], 0),
        (["seed=ten"], 1),
        (["model=dinov2", "model.size=huge"], 1),
        (["method.loss.label_smoothing=much"], 1),
    ],
)
def test_light_commands_do_not_import_torch(arguments: list[str], status: int, tmp_path: Path) -> None:
    done = light_command(tmp_path, arguments)
    assert "was imported" not in done.stderr
    assert done.returncode == status
    assert done.stdout or done.stderr


def test_a_finished_run_is_answered_without_torch(tmp_path: Path) -> None:
    settings = settings_of(composed(tmp_path), CHOICES)
    run_dir = run_dir_of(settings)
    run_dir.path.mkdir(parents=True)
    scores = {"initial": {"knn/accuracy": 0.25}, "final": {"knn/accuracy": 0.5}, "skipped": {}}
    cost = {"steps": 3, "train_seconds": 1.0, "images_per_second": 2.0, "peak_memory_mb": 3.0}
    there = dict.fromkeys(wanted_scores(settings), True)
    what = {"format": FORMAT, "run_id": run_dir.path.name, "evaluations": there, "settings": {"final": {}}}
    write_json(run_dir.results, {**what, **scores, **cost})
    done = light_command(tmp_path, [*TINY, f"outputs_dir={tmp_path}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{run_dir.path.name} is done already" in done.stdout


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in found]


def test_no_file_is_read_in_a_way_that_may_run_it() -> None:
    """Files come from elsewhere. Objects of Python are never loaded from them."""
    for path in MODULES:
        if str(path.relative_to(PACKAGE)) == PICKLES:
            continue
        for name, call in calls(path):
            where = f"{path}:{call.lineno}: {name}"
            assert not any(f".{name}".endswith(f".{word}") for word in RUNS), where
            if name in SAID:
                key, value = SAID[name]
                given = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg == key}
                assert given == {key: value}, where
