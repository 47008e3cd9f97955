"""The command line as a user meets it: its help, and what `pip install` leaves of it in any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.places import ROOT
from tests.running import TINY

HELP = [sys.executable, str(ROOT / "launch.py"), "--help"]


def run(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_help_knows_choices_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: mine.Mine\n")
    done = run([*HELP, "--config-dir", str(tmp_path)], tmp_path)
    assert done.returncode == 0, done.stderr
    (models,) = [line for line in done.stdout.splitlines() if " mine," in line]
    assert "aimv2" in done.stdout
    assert "local, parallel, slurm" in done.stdout
    assert models.startswith(" ")


def test_a_reader_that_has_seen_enough_is_no_mistake(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head` does when it has its lines
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    wheel = run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)], work)
    assert wheel.returncode == 0, wheel.stderr
    (path,) = tmp_path.glob("dinodiet-*.whl")
    assert run([*pip, "install", "--no-deps", "--target", str(site), str(path)], work).returncode == 0
    assert (site / "dinodiet" / "py.typed").is_file()

    def dinodiet(*words: str) -> str:
        done = run([sys.executable, str(site / "bin" / "dinodiet"), *words], work, PYTHONPATH=str(site))
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = dinodiet("--help")
    assert "usage: dinodiet " in where
    assert "vit_sizes" in where
    dinodiet(*TINY, "schedule.epochs=1")
    assert list(work.glob("outputs/default/*/results.json"))
    assert "1 done" in dinodiet("results", "outputs/default")
    assert "resnet18" in dinodiet("catalogue", "resnet18")
    assert "4 runs" in dinodiet("-m", "sweeps=smoke", "mode=plan", "seed=0")
    grid = ("-m", "hydra/launcher=parallel", "hydra.launcher.processes=2", *TINY, "schedule.epochs=0", "seed=3,4")
    assert "2 runs: 2 done" in dinodiet(*grid, "name=grid")


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"x\xff", "Blätter".encode()])
@pytest.mark.parametrize("words", [["mode=plan"], ["-m", "mode=plan", "seed=0,1"]])
def test_a_folder_may_have_any_name(name: bytes, words: list[str], tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(name)
    for number in range(40):
        path = root / "train" / f"c{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), number).save(path)
    where = (f"dataset.source.root={root}", f"outputs_dir={tmp_path}/outputs")
    changes = ("dataset=folder", "dataset.image_size=16", "dataset.limit=null", "eval.knn.k=3")
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *TINY, *changes, *where, *words], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"2 missing" in done.stdout if "-m" in words else b"1 missing" in done.stdout
