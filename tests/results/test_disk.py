"""What lies on disk, and that cleaning takes what can be had again and nothing else."""

import fcntl
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from dinodiet.results import disk, leftovers
from dinodiet.results.__main__ import main
from tests.places import ROOT
from tests.results import studies
from tests.running import CHOICES, composed, run

RUN_FILES = ("config.yaml", "weights.safetensors", "encoder.safetensors", "scores/a.json", "log.txt", "metrics.jsonl")
LEFTOVERS = ("checkpoint.pt", "checkpoint.previous.pt", "run.lock", ".results.json.abc12_x9")
KEY = "0123456789abcdef" * 2
CACHED = (
    *(f"embeddings/{KEY}.safetensors", f"trunks/{KEY}_view0.bin", f"scores/{KEY}.json", f"decoded/{KEY}.pixels"),
    *(f"tokens/{KEY}.bin", f"tokens/{KEY}_once.bin", f"reports/{KEY}.json", f"reports/{KEY}_artefacts.json"),
    *(f"reports/{KEY}_artefacts/trainings.csv", f"reports/{KEY}_artefacts/lr5e-05_seed0.jsonl", f"shared/{KEY}.json"),
)


def fill(folder: Path, *names: str, size: int = 1000) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * (0 if name.endswith(".lock") else size))
        os.utime(folder / name, (0, time.time() - 7200))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A study with a finished, a failed and a running run, and the cache beside it."""
    study = tmp_path / "study"
    done = studies.write(study, studies.results())
    fill(done, *RUN_FILES, *LEFTOVERS, "wandb/offline-run/x.wandb")
    fill(studies.write_status(study, "failed", state="failed"), *LEFTOVERS)
    fill(tmp_path / ".cache", *CACHED, "mine/notes.txt", size=4096)
    fill(study, ".sweep/grid.json", ".sweep/jobs/1_log.out", "sanity.json", "embeddings/model_set/test.npz")
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_all_kinds_are_shown_with_their_sizes(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(outputs / "study"), "--disk"]) == 0
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    shown = {line[0]: line[1:] for line in lines}
    assert shown["weights"] == ["2 files", "2.0 KiB"]
    assert shown["checkpoints of unfinished runs"] == [
        "2 files",
        "2.0 KiB",
    ]  # of the failed run: it may go on from there
    assert shown["checkpoints of finished runs"] == ["2 files", "2.0 KiB", "--clean takes all"]
    assert shown["unfinished files"] == ["2 files", "2.0 KiB", "--clean takes all"]
    assert shown["W&B"][0] == "1 file" and shown["logs"][0] == "3 files"
    assert shown["embedded images"] == ["1 file", "1000 B"]
    assert shown["trunks"] == shown["embeddings"] == ["1 file", "4.0 KiB", "--clean takes all"]
    assert shown["total"][0] == f"{len(files(outputs)) - 1} files"  # what is not ours in the cache is not counted
    assert [line[0] for line in lines if line[0].startswith("/")] == [f"{outputs}/study", f"{outputs}/.cache"]


def test_cleaning_takes_what_can_be_had_again(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(outputs)
    assert main([str(outputs / "study"), "--clean", "--yes"]) == 0
    (name,) = (path.name for path in (outputs / "study").glob("dino*"))
    gone = {f"study/{name}/{file}" for file in LEFTOVERS} | {f"study/failed/{file}" for file in LEFTOVERS[2:]}
    assert before - files(outputs) == gone | {f".cache/{name}" for name in CACHED}
    assert not (outputs / ".cache" / "trunks").exists()
    assert "removed 17 files" in capsys.readouterr().out
    assert main([str(outputs / "study"), "--clean"]) == 0
    assert "nothing to clean" in capsys.readouterr().out


def test_nothing_goes_without_a_word(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(outputs)
    assert main([str(outputs / "study"), "--clean"]) == 1
    assert "add --yes" in capsys.readouterr().err
    assert files(outputs) == before


@pytest.mark.parametrize(("answer", "left"), [("y", False), ("", True)])
def test_the_user_is_asked(answer: str, left: bool, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    disk.disk([outputs / "study"], clean=True)
    assert (outputs / ".cache" / "embeddings").exists() == left


def test_what_runs_is_left_alone(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for study in ("study", "other"):  # the cache is shared with a run of another study
        running = studies.write_status(outputs / study, "running", state="running", heartbeat=time.time(), host="far")
        fill(running, *LEFTOVERS)
    before = files(outputs)
    assert main([str(outputs / "study"), "--clean", "--yes"]) == 0
    kept = {file for file in before if file.startswith((".cache", "study/running", "other"))}
    assert kept <= files(outputs) < before
    printed = capsys.readouterr().out
    assert "study: 1 run at work or queued, left alone" in printed
    assert f".cache: runs in {outputs}/other, {outputs}/study may use it" in printed


def test_a_finished_run_that_is_being_scored_is_left_alone(outputs: Path) -> None:
    (run,) = (outputs / "study").glob("dino*")
    before = files(run)
    with FileLock(run / "run.lock"):
        disk.disk([run], clean=True, yes=True)
    assert files(run) >= before - {"run.lock"}


def test_a_cache_that_is_written_to_is_left_alone(outputs: Path) -> None:
    with FileLock(outputs / ".cache" / "trunks" / f"{KEY}_view1.lock"):
        disk.disk([outputs / "study"], clean=True, yes=True)
    assert (outputs / ".cache" / "embeddings" / f"{KEY}.safetensors").exists()


def test_the_only_weights_of_a_run_are_no_leftover(outputs: Path) -> None:
    (run,) = (outputs / "study").glob("dino*")
    (run / "weights.safetensors").unlink()
    disk.disk([run], clean=True, yes=True)
    assert (run / "checkpoint.pt").exists() and not (run / "run.lock").exists()


def test_a_cache_elsewhere_is_found_by_the_configuration(outputs: Path, tmp_path: Path) -> None:
    fill(tmp_path / "scratch", f"decoded/{KEY}.pixels", "decoded.txt")
    (outputs / "study" / "failed" / "config.yaml").write_text(f"cache_dir: {tmp_path}/scratch")
    disk.disk([outputs / "study"], clean=True, yes=True)
    assert files(tmp_path / "scratch") == {"decoded.txt"}


def test_the_folders_of_caches_are_those_that_are_written() -> None:
    modules = [path for path in (ROOT / "dinodiet").rglob("*.py") if path.parent.name != "results"]
    source = "".join(path.read_text() for path in modules)
    assert [name for name in leftovers.CACHES if f'/ "{name}"' not in source] == []


def test_no_link_is_followed_out_of_a_folder(outputs: Path, tmp_path: Path) -> None:
    """Behind every link lies what would go if it were followed."""
    away = tmp_path.parent / f"{tmp_path.name}_away"
    (finished,) = (outputs / "study").glob("dino*")
    shutil.copytree(outputs, away, symlinks=True)
    fill(away, f"decoded/{KEY}.pixels", f"decoded/below/{KEY}.pixels", ".results.json.abc12_x9")
    before = files(away)
    for link, target in {
        outputs / "study" / "run_elsewhere": away / "study" / finished.name,
        outputs / "study" / "study_elsewhere": away / "study",
        outputs / "study" / ".sweep" / "more": away,
        finished / "more": away,
        finished / "artefacts": away / "study" / finished.name,
        outputs / ".cache" / "decoded" / "below": away / "decoded",
        outputs / ".cache" / "embeddings" / ("f" * 32 + ".safetensors"): away / "decoded" / f"{KEY}.pixels",
    }.items():
        link.symlink_to(target)
    shutil.rmtree(outputs / ".cache" / "scores")
    (outputs / ".cache" / "scores").symlink_to(away / ".cache" / "scores")
    disk.disk([outputs / "study"], clean=True, yes=True)
    disk.disk([outputs], clean=True, yes=True)
    assert files(away) == before
    assert (outputs / ".cache" / "embeddings" / ("f" * 32 + ".safetensors")).is_symlink()
    assert not (finished / "checkpoint.pt").exists()
    shutil.rmtree(away)


def test_a_study_that_is_given_as_a_link_is_cleaned(outputs: Path) -> None:
    (outputs / "link").symlink_to(outputs / "study")
    disk.disk([outputs / "link"], clean=True, yes=True)
    (finished,) = (outputs / "study").glob("dino*")
    assert not (finished / "checkpoint.pt").exists()


def test_files_of_others_stay(outputs: Path) -> None:
    """Names that dinodiet gives no file, and names that it gives in other places."""
    (finished,) = (outputs / "study").glob("dino*")
    theirs = outputs / "study" / "theirs"
    fill(theirs, "results.json", "checkpoint.pt", "weights.safetensors", ".notes.markdown", ".a.b.lockfile")
    (theirs / "results.json").write_text('{"accuracy": 1}')
    fill(finished, "artefacts/checkpoint.pt", "notes/run.lock", "mine/checkpoint.pt", ".env.template")
    fill(
        outputs / ".cache",
        "embeddings/mine.safetensors",
        f"decoded/mine/{KEY}.pixels",
        "scores/thesis.json",
        "trunks/a",
    )
    for lock in (outputs / "study/paper/poetry.lock", finished / "uv.lock", outputs / ".cache/scores/mine.lock"):
        lock.parent.mkdir(exist_ok=True)
        lock.write_text("[[package]]")
    (finished / "empty").mkdir()
    (outputs / "study" / "unused" / "deeper").mkdir(parents=True)
    fill(outputs / "study" / "unused", ".results.json.abc12_x9")
    before = {path: path.read_bytes() for path in outputs.rglob("*") if path.is_file()}
    left = {*theirs.rglob("*"), *outputs.rglob("*mine*"), finished / "uv.lock", finished / ".env.template"}
    disk.disk([outputs], clean=True, yes=True)
    gone = {path for path in before if not path.exists()}
    assert gone and not gone & left
    assert all(path.read_bytes() == content for path, content in before.items() if path not in gone)
    assert (finished / "empty").is_dir() and (outputs / "study" / "unused" / "deeper").is_dir()
    assert (outputs / ".cache" / "scores" / "thesis.json").exists() and (outputs / ".cache" / "trunks" / "a").exists()
    assert (finished / "artefacts" / "checkpoint.pt").exists() and (finished / "notes" / "run.lock").exists()


def test_a_configuration_of_somebody_else_names_any_cache(outputs: Path, tmp_path: Path) -> None:
    fill(tmp_path / "photos", "embeddings/holiday.jpg", "decoded/raw/1.pixels", "scores/beethoven.json")
    before = files(tmp_path / "photos")
    for name in (f"{tmp_path}/photos", "3", "[a]", "{}", "true"):
        (outputs / "study" / "failed" / "config.yaml").write_text(f"cache_dir: {name}")
        disk.disk([outputs / "study"], clean=True, yes=True)
    assert files(tmp_path / "photos") == before


@pytest.mark.slow
def test_what_a_run_keeps_has_the_names_that_are_cleaned(tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / "images" / "train" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((16, 16), number).save(path)
    changes = (
        "dataset=folder",
        f"dataset.source.root={tmp_path}/images",
        "dataset.limit=null",
        "dataset.normalization=dataset",
        "method.trunk.views=1",
    )
    words = (
        *changes,
        "method.trainable=last_1_blocks",
        "eval.knn.k=3",
        "dataset.image_size=16",
        "schedule.epochs=1",
        "mode=train",
        "eval=[knn,finetune,attentive]",
        "eval.finetune.steps=1",
        "eval.attentive.pooling.queries=2",
        "eval.attentive.training={epochs: 1, min_steps: 1}",
    )
    run(composed(tmp_path / "outputs", *words), {**CHOICES, "dataset": "folder"})
    cache = tmp_path / "outputs" / ".cache"
    for name in leftovers.CACHES:
        kept = [*leftovers.files_below(cache / name)]
        assert kept and all(leftovers.is_cached(file, cache / name) for file in kept), name
    disk.disk([tmp_path / "outputs"], clean=True, yes=True)
    assert [*cache.iterdir()] == []


def test_what_others_put_beside_reports_stays(outputs: Path) -> None:
    theirs = {f"reports/{KEY}_artefacts/notes.txt", f"reports/mine/{KEY}.json", "reports/trainings.csv"}
    fill(outputs / ".cache", *theirs)
    disk.disk([outputs / "study"], clean=True, yes=True)
    assert files(outputs / ".cache") == theirs | {"mine/notes.txt"}


def test_a_lock_of_another_program_is_not_asked(outputs: Path) -> None:
    """Some versions of filelock empty what they lock."""
    (finished,) = (outputs / "study").glob("dino*")
    (finished / "uv.lock").write_text("[[package]]")
    with (finished / "uv.lock").open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        disk.disk([outputs / "study"], clean=True, yes=True)
    assert not (finished / "checkpoint.pt").exists()
    assert (finished / "uv.lock").read_text() == "[[package]]"
