import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.backbones.recompute import recompute_blocks
from dinodiet.errors import UserError, one_line
from dinodiet.run import checkpoint
from dinodiet.run.exclusive import exclusive
from dinodiet.run.leaving import leaving_on_signals
from dinodiet.run.monitor import Monitor
from dinodiet.store.code import code_record
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Preempted
from tests.kinds import after_nightly
from tests.running import CHOICES, composed, killed_after, results_in, run, scores


@pytest.mark.slow
def test_a_run_leaves_everything_in_one_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(composed(tmp_path, "eval=[knn,kmeans,linear]", "eval.every_epochs=1"), CHOICES)
    (folder,) = (tmp_path / "default").iterdir()
    run_dir = RunDir(folder)
    assert folder.name == results["run_id"]
    assert folder.name.startswith("vit-tiny_digits_diet_seed0_")
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "status.json", "metrics.jsonl", "results.json", "run.lock", "splits.json", "scores",
        "dataset.json", "weights.safetensors", "encoder.safetensors", "artefacts"
    }  # fmt: skip
    for metric in ("knn/accuracy", "knn/f1", "knn/auroc", "kmeans/ari", "kmeans/nmi", "linear/accuracy"):
        for phase in (results["initial"], results["final"], results["validation"]["final"]):
            assert 0 <= phase[metric] <= 1, metric
    assert results["initial"] != results["final"]
    assert [row["epoch"] for row in results["epochs"]] == [1, 2]  # the last is the final evaluation
    assert json.loads(run_dir.status.read_text())["state"] == "done"
    losses = [row["loss"] for row in run_dir.read_metrics() if "loss" in row]
    assert len(losses) == results["steps"] / 2
    for key in ("config", "versions", "git_commit", "parameters", "peak_memory_mb", "images_per_second", "seed"):
        assert results[key] is not None, key
    printed = capsys.readouterr().out
    assert "knn/accuracy" in printed
    assert str(folder) in printed


@pytest.mark.slow
def test_a_finished_run_returns_its_results_without_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(composed(tmp_path), CHOICES)
    (folder,) = (tmp_path / "default").iterdir()
    (folder / "metrics.jsonl").unlink()
    again = run(
        composed(tmp_path, "tracker=wandb", "log_every=7", "num_workers=1"), CHOICES
    )  # not part of the identity
    assert scores(again) == scores(first)
    assert not (folder / "metrics.jsonl").exists()
    assert "is done already" in capsys.readouterr().out


@pytest.mark.slow
def test_the_seed_and_the_method_make_another_run(tmp_path: Path) -> None:
    for override in ("seed=0", "seed=1", "method.loss.label_smoothing=0.3"):
        run(composed(tmp_path, override, "schedule.epochs=0"), CHOICES)
    assert len(list((tmp_path / "default").iterdir())) == 3


def test_without_steps_the_scores_stay(tmp_path: Path) -> None:
    results = run(composed(tmp_path, "schedule.epochs=0"), CHOICES)
    assert results["initial"] == results["final"]
    assert results["images_per_second"] is None


@pytest.mark.slow
def test_killed_in_its_last_evaluation_a_run_repeats_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(composed(tmp_path / "a", "eval.every_epochs=1"), CHOICES)
    cfg = composed(tmp_path / "b", "eval.every_epochs=1")
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("dinodiet.run.run.write_weights", Mock(side_effect=InterruptedError))
        run(cfg, CHOICES)
    (folder,) = (tmp_path / "b" / "default").iterdir()
    assert checkpoint.read(RunDir(folder).checkpoint)["step"] == undisturbed["steps"]
    monkeypatch.setattr(Monitor, "on_step", lambda *_: pytest.fail("it trains"))
    assert scores(run(cfg, CHOICES)) == scores(undisturbed)


def test_a_run_that_continues_a_checkpoint_of_other_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg, this = composed(tmp_path, "checkpoint_minutes=0", "schedule.epochs=1"), code_record()["code"]
    for step, code in ((1, None), (2, "aaaa")):  # checkpoints of older versions say none
        with killed_after(step, monkeypatch):
            run(cfg)
        assert "other code" not in capsys.readouterr().err
        (folder,) = (tmp_path / "default").iterdir()
        kept = checkpoint.read(RunDir(folder).checkpoint)
        assert kept["code"] == this and "code_before" not in kept
        checkpoint.save(RunDir(folder), {**kept, "code": code})
    results = run(cfg)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "other code" in line]
    assert line.startswith("warning: checkpoint: ") and f"aaaa; this is {this}" in line
    assert (results["code"], results["code_before"]) == (this, ["aaaa"])


@pytest.mark.parametrize("method", ["diet", "diet_dual", "dino"])
def test_every_method_runs(tmp_path: Path, method: str) -> None:
    cfg = composed(tmp_path, f"method={method}", "schedule.batch_size=16", "schedule.epochs=1")
    results = run(cfg, {**CHOICES, "method": method})
    assert results["final"]["knn/accuracy"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", after_nightly(1, ["diet", "dino"]))
def test_gradient_checkpointing_changes_nothing(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spared = Mock(wraps=recompute_blocks)
    monkeypatch.setattr("dinodiet.run.parts.recompute_blocks", spared)
    common = (f"method={method}", "method.trainable=all", "model.drop_path=0.5", "schedule.epochs=1")
    plain = run(composed(tmp_path / "a", *common), {**CHOICES, "method": method})
    saving = run(composed(tmp_path / "b", *common, "grad_checkpointing=true"), {**CHOICES, "method": method})
    assert scores(saving) == scores(plain)
    assert saving["run_id"] == plain["run_id"]
    assert spared.called


def test_a_divergence_is_a_failure_and_no_result(tmp_path: Path) -> None:
    sgd = ("schedule.optimizer._target_=torch.optim.SGD", "schedule.lr=100", "method.head.lr_scale=1000")
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step"):
        run(composed(tmp_path, *sgd, "schedule.weight_decay=0", "method.head.warmup_fraction=0"), CHOICES)
    (folder,) = (tmp_path / "default").iterdir()
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert f"at step {status['step']} of {status['total_steps']}" in status["reason"]
    assert status["phase"] == "training"
    assert not (folder / "results.json").exists()


@pytest.mark.slow
def test_a_run_in_a_thread_is_the_same_run(tmp_path: Path) -> None:
    """Only the main thread may handle signals: another leaves them alone."""
    with ThreadPoolExecutor(1) as pool:
        threaded = pool.submit(run, composed(tmp_path / "threaded"), CHOICES).result()
    assert scores(threaded) == scores(run(composed(tmp_path / "main"), CHOICES))


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "r")
    with exclusive(run_dir), pytest.raises(UserError, match="is working on this run"), exclusive(run_dir):
        pass


@pytest.mark.slow
def test_sanity_holds_a_frozen_backbone_against_thresholds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low = composed(tmp_path, "mode=sanity", "++model.published={digits: {knn/accuracy: 0.01}}")
    assert run(low, CHOICES)["passed"]
    assert "pass" in capsys.readouterr().out
    with pytest.raises(UserError, match="below the published knn/accuracy"):
        run(composed(tmp_path, "mode=sanity", "++model.published={digits: {knn/accuracy: 0.999}}"), CHOICES)


@pytest.mark.slow
def test_initial_embeddings_are_kept_and_used(tmp_path: Path) -> None:
    first = run(composed(tmp_path), CHOICES)
    cached = sorted((tmp_path / ".cache" / "embeddings").glob("*.safetensors"))
    assert len(cached) == 3  # train, test, val
    before = [path.stat().st_mtime_ns for path in cached]
    second = run(composed(tmp_path, "method.loss.label_smoothing=0.5"), CHOICES)
    assert second["initial"] == first["initial"]
    assert [
        path.stat().st_mtime_ns for path in sorted((tmp_path / ".cache" / "embeddings").glob("*.safetensors"))
    ] == before


@pytest.mark.slow
def test_low_precision_and_accumulation_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run(composed(tmp_path, "precision=bf16", "schedule.accumulate=2", "schedule.epochs=1"), CHOICES)
    assert results_in(tmp_path)["config"]["precision"] == "bf16"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    image = Image.fromarray(np.full((40, 40, 3), 90, dtype=np.uint8))
    for name in ("cat", "dog"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        for number in range(20):
            image.save(tmp_path / "images" / "train" / name / f"{number}.png")
    broken = tmp_path / "images" / "train" / "dog" / "7.png"
    broken.write_bytes(broken.read_bytes()[:60])
    overrides = (
        "dataset=folder",
        f"dataset.source.root={tmp_path / 'images'}",
        f"num_workers={workers}",
        "eval.knn.k=3",
    )
    with pytest.raises(UserError) as refusal:
        run(composed(tmp_path, *overrides, "dataset.limit=null"), {**CHOICES, "dataset": "folder"})
    assert "dog/7.png: cannot be read as an image" in one_line(refusal.value)
    assert "Traceback" not in one_line(refusal.value)


@pytest.mark.slow
def test_a_multilabel_set_is_scored_by_auroc_and_what_makes_no_sense_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, number in (("train", 60), ("val", 20), ("test", 30)):
        arrays[f"{split}_images"] = draw.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = draw.integers(0, 2, (number, 14), dtype=np.uint8)
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    chest = ("dataset=chestmnist", f"data_dir={tmp_path}", "dataset.source.published=null", "dataset.limit=40")
    results = run(
        composed(tmp_path, *chest, "eval=[knn,kmeans,linear]", "model.patch_size=4", "schedule.epochs=1"),
        {**CHOICES, "dataset": "chestmnist"},
    )
    assert set(results["final"]) == {"knn/auroc", "linear/auroc"}
    assert set(results["skipped"]) == {"kmeans"}
    assert "kmeans is left out: " in capsys.readouterr().out


@pytest.mark.slow
def test_pictures_of_different_sizes_train_both_methods(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        for number in range(30):
            pixels = draw.integers(0, 256, (30 + number, 70 - number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / "train" / name / f"{number}.jpg")
    folder = ("dataset=folder", f"dataset.source.root={tmp_path / 'images'}", "dataset.limit=null", "eval.knn.k=3")
    size = ("dataset.image_size=32", "schedule.epochs=2", "schedule.batch_size=16", "schedule.lr=0.01")
    for method, more in (("diet", ()), ("dino", ("method.views.crops=2x32+2x16",))):
        cfg = composed(tmp_path, *folder, *size, f"method={method}", *more)
        results = run(cfg, {**CHOICES, "dataset": "folder", "method": method})
        assert results["steps"] >= 2
        assert results["final"] != results["initial"]


def test_a_signal_is_what_ended_a_run_also_where_a_library_fails_to_clean_up() -> None:
    with pytest.raises(Preempted) as left, leaving_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            raise AttributeError("half done")
    assert left.value.signal_name == "SIGTERM"
    assert isinstance(left.value.__cause__, AttributeError)


def test_an_error_without_a_signal_stays_what_it_is() -> None:
    with pytest.raises(AttributeError, match="half done"), leaving_on_signals():
        raise AttributeError("half done")
