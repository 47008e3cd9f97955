"""Landscapes of real runs: what is measured at points that are known, in parts, after a failure, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from dinodiet.config.gate import gate
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.evals.probe import Probe
from dinodiet.evals.splits import GivenSplits
from dinodiet.features.embed import embed
from dinodiet.methods.parts.heads import DINOHead
from dinodiet.results import collect
from dinodiet.run.landscape.landscape import MeasuredPlane, folder_of, parts_folder
from dinodiet.run.landscape.measure import Measurer
from dinodiet.run.parts import open_data, runtime_of
from dinodiet.run.trained import load
from dinodiet.run.weights import below
from dinodiet.store.rundir import RunDir
from tests.kinds import after_nightly
from tests.running import composed, run

DINO = (
    *("model=resnet_tiny", "model.size=20", "dataset=digits", "dataset.limit=48", "dataset.image_size=16"),
    *("tuned=none", "method=dino", "method.head.out_dim=16", "method.head.hidden_dims=[16]", "eval=knn"),
    *("method.views.crops=2x16", "method.teacher.momentum=0.5", "schedule.epochs=3", "schedule.batch_size=24"),
    *("method.loss.teacher_temp=0.05", "method.loss.student_temp=0.2"),
    *("schedule.lr.value=1e-2", "keep_every_epochs=1", "eval.knn.k=5", "eval.validation=false", "device=cpu"),
)
CHOICES = {"model": "resnet_tiny", "dataset": "digits", "method": "dino"}
RAW = ("landscape.axes=raw", "landscape.origin=first", "landscape.k=5")
CORNERS = (*RAW, "landscape.x=[0,1,1]", "landscape.y=[0,1,1]")


def do(folder: Path, *words: str) -> dict[str, Any]:
    return run(composed(folder, *words, base=DINO), CHOICES, words)


def settings_for(run_dir: RunDir, *words: str) -> Settings:
    given = ("mode=landscape", f"checkpoint={run_dir.path}", *words)
    return gate(composed(run_dir.path.parent.parent, *given, base=("device=cpu",)), {}, given, quiet=True)


def look(run_dir: RunDir, *words: str) -> pd.DataFrame:
    given = ("mode=landscape", f"checkpoint={run_dir.path}", *words)
    done = run(composed(run_dir.path.parent.parent, *given, base=("device=cpu",)), {}, given)
    return pd.read_csv(Path(done["folder"]) / "landscape.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("trained")
    return RunDir(folder / "default" / do(folder)["run_id"])


def row(frame: pd.DataFrame, x: float, y: float) -> pd.Series[Any]:
    found: pd.Series[Any] = frame[(frame["x"] == x) & (frame["y"] == y)].iloc[0]
    return found


def networks(run_dir: RunDir) -> dict[str, Any]:
    """Return embeddings and scaled logits of teacher and student by the run's files; BatchNorms have the teacher's.

    The student is embedded with the statistics of the teacher, as a landscape of batchnorm=first does.
    """
    settings = gate(composed(run_dir.path.parent.parent, base=DINO), CHOICES)
    data, whole = open_data(settings.dataset), load_file(run_dir.weights)
    statistics = {k: v for k, v in below("teacher.backbone", whole).items() if "running" in k}
    found: dict[str, Any] = {}
    for tower, prefix in (("evaluated", "teacher.head"), ("trained", "head")):
        loaded = load(run_dir.path, tower=tower)  # type: ignore[arg-type]
        loaded.backbone.load_state_dict(statistics, strict=False)
        head = DINOHead(64, data.spec, out_dim=16, hidden_dims=[16])
        head.load_state_dict(below(prefix, whole))
        for split, images in (("train", data.train), ("val", data.val)):
            made = embed(loaded.backbone, images, loaded.input, runtime_of(settings), num_labels=10, multilabel=False)
            with torch.no_grad():
                raw = head.eval()(made.features).double()
            centred = (raw - whole["loss.center"]) / 0.05 if tower == "evaluated" else raw / 0.2
            found[f"{tower}/{split}"] = made, centred
    return found


@pytest.mark.slow
def test_at_the_student_it_is_what_the_files_of_the_run_give(trained: RunDir) -> None:
    frame = look(trained, *CORNERS, "landscape.batchnorm=first")
    assert len(frame) == 4 and frame["failure"].isna().all()
    at, found = row(frame, 1, 0), networks(trained)  # the second point
    for split in ("train", "val"):
        (_, teacher), (_, student) = found[f"evaluated/{split}"], found[f"trained/{split}"]
        p, logs = teacher.softmax(1), student.log_softmax(1)
        ce, own = -(p * logs).sum(1).mean().item(), -(p * p.log()).sum(1).mean().item()
        expected = {"ce": ce, "target_entropy": own, "kl": ce - own, "mse": (teacher - student).square().mean().item()}
        expected["entropy"] = -(logs.exp() * logs).sum(1).mean().item()
        assert {name: at[f"{split}_{name}"] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
    splits = GivenSplits(found["trained/train"][0], found["trained/val"][0])
    scores = Probe(k=5, linear=False)(splits)
    assert (at["val_knn"], at["val_knn_norm"]) == (scores["knn"].value, scores["knn_norm"].value)
    whole = load_file(trained.weights)
    head = sum(float(v.double().square().sum()) for v in below("head", whole).values())
    assert at["norm_head"] == pytest.approx(head**0.5, rel=1e-6)
    assert at["norm_model"] == pytest.approx((head + at["norm_encoder"] ** 2) ** 0.5, rel=1e-6)


@pytest.mark.slow
def test_corners_may_be_of_another_run(trained: RunDir, tmp_path: Path) -> None:
    other = RunDir(tmp_path / "default" / do(tmp_path, "seed=1")["run_id"])
    frame = look(trained, *CORNERS, f"landscape.points=[teacher,{other.path}:student,{other.path}:init]")
    for (x, y), file in {(1, 0): other.weights, (0, 1): other.kept(0)}.items():
        whole = load_file(file)
        norm = sum(float(value.double().square().sum()) for value in below("head", whole).values()) ** 0.5
        assert row(frame, x, y)["norm_head"] == pytest.approx(norm, rel=1e-6)
    turned = look(other, *CORNERS, f"landscape.points=[student,{trained.path}:teacher,init]")  # no chart of one run
    assert row(turned, 0, 0)["norm_encoder"] == pytest.approx(row(frame, 1, 0)["norm_encoder"], rel=1e-6)
    assert row(turned, 1, 0)["norm_encoder"] == pytest.approx(row(frame, 0, 0)["norm_encoder"], rel=1e-6)
    assert row(turned, 0, 0)["val_knn"] == row(frame, 1, 0)["val_knn"]
    path = pd.read_csv(
        folder_of(settings_for(other, *CORNERS, f"landscape.points=[student,{trained.path}:teacher,init]")) / "path.csv"
    )
    assert list(path["what"][:3]) == [
        f"{other.path.name}:student",
        f"{trained.path.name}:teacher",
        f"{other.path.name}:init",
    ]
    wide = RunDir(tmp_path / "default" / do(tmp_path, "method.head.hidden_dims=[8]")["run_id"])
    with pytest.raises(UserError, match=r"landscape.points: head.*of one of them is absent or of another shape"):
        look(trained, f"landscape.points=[teacher,student,{wide.path}:student]")
    unkept = RunDir(tmp_path / "default" / do(tmp_path, "seed=2", "keep_every_epochs=null")["run_id"])
    with pytest.raises(UserError, match=r"seed2.*:init was not kept; a run with keep_every_epochs=1 keeps it"):
        look(trained, f"landscape.points=[teacher,student,{unkept.path}:init]")


@pytest.mark.slow
def test_the_beginning_is_rebuilt_where_it_was_not_kept(trained: RunDir, tmp_path: Path) -> None:
    kept = MeasuredPlane(settings_for(trained, *CORNERS))
    again = RunDir(tmp_path / "default" / do(tmp_path, "keep_every_epochs=null")["run_id"])
    assert again.path.name == trained.path.name  # it names no run
    assert not (again.path / "kept").exists()
    assert sorted(path.stem for path in (trained.path / "kept").iterdir()) == [f"step{n:08}" for n in (0, 2, 4)]
    rebuilt = MeasuredPlane(settings_for(again, *CORNERS))
    assert all(torch.equal(a, b) for a, b in zip(kept.vectors, rebuilt.vectors, strict=True))
    path = pd.DataFrame(kept.path())
    assert list(path[path["what"] == "student"]["step"]) == [0, 2, 4, 6]
    ends = path[path["step"].isin([0, 6])]
    assert ends["distance"].max() < 1e-9 < path["distance"].max()


@pytest.mark.slow
def test_statistics_are_recomputed_on_train_at_each_point(trained: RunDir) -> None:
    measured = MeasuredPlane(settings_for(trained, *CORNERS))
    measured.measurer.at(measured.plane.at(0.5, 0.5).float())
    encoder = measured.networks.parts("student")["encoder"]
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    convolution = next(module for module in encoder.modules() if isinstance(module, torch.nn.Conv2d))
    seen: list[torch.Tensor] = []
    hook = convolution.register_forward_hook(lambda module, inputs, output: seen.append(output))
    measured.measurer._recompute_statistics()
    hook.remove()
    assert norms[0].running_mean is not None and norms[0].running_var is not None
    assert torch.allclose(norms[0].running_mean, torch.cat(seen).mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norms[0].running_var, torch.cat(seen).var((0, 2, 3)), rtol=1e-4)
    assert all(norm.momentum == 0.1 for norm in norms)


@pytest.mark.slow
def test_failed_points_are_missing_and_named_and_measured_by_the_same_command(
    trained: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, at = (*CORNERS, "landscape.chunk=3"), Measurer.at
    calls: list[int] = []

    def failing(self: Measurer, vector: torch.Tensor) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            raise FloatingPointError("the encoder's embeddings are not finite")
        return at(self, vector)

    monkeypatch.setattr(Measurer, "at", failing)
    with pytest.raises(UserError, match=r"1 points failed: \(1, 0\) FloatingPointError: .*same command"):
        look(trained, *words)
    assert "3 of 4 points measured" in capsys.readouterr().out
    folder = folder_of(settings_for(trained, *words))
    frame = pd.read_csv(folder / "landscape.csv")
    assert list(frame["val_knn"].isna()) == [False, True, False, False]
    assert "FloatingPointError" in frame["failure"][1]
    status = json.loads((parts_folder(settings_for(trained, *words)) / "part0000" / "status.json").read_text())
    assert status["state"] == "failed" and "(1, 0)" in status["reason"]
    again = look(trained, *words)
    assert len(calls) == 5 and again["failure"].isna().all()  # the one that was missing
    assert (folder / "landscape.png").stat().st_size > 10_000 and (folder / "path.csv").exists()
    whole = look(trained, *words, "landscape.chunk=32")
    pd.testing.assert_frame_equal(whole, again)
    assert set(collect(trained.path.parent)["run"]) == {trained.path.name}  # no part is taken for a run


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("landscape.points=[teacher,student]", "landscape.points: teacher, student; a plane goes through three"),
        ("landscape.points=[teacher,student,begin]", "'begin'; choose from: teacher, student, init"),
        ("landscape.points=[teacher,student,nowhere:init]", "nowhere is no finished run"),
        ("landscape.points=[teacher,student,student]", "the three lie on a line"),
        ("landscape.x=[0,1,0.3]", r"landscape.x: \[0.0, 1.0, 0.3\]; 0.3 does not divide"),
        ("landscape.x=[0,1,1e-9]", r"landscape.x: .* 1e\+09 values are more than the 1,000 of an axis"),
        ("landscape.part=99", "landscape.part: 99; choose from 0 to 3, or null for all"),
        ("landscape.k=1000", "landscape.k: 1000; there are only 48 train images"),
    ],
)
def test_what_makes_no_plane_is_refused_in_one_line(trained: RunDir, word: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        look(trained, word)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name"), after_nightly(1, [("diet", "DIET"), ("byol", "BYOL")]))
def test_a_method_without_a_teacher_of_logits_is_refused(tmp_path: Path, method: str, name: str) -> None:
    words = tuple(word for word in DINO if not word.startswith(("method", "schedule.lr")))
    done = run(composed(tmp_path, f"method={method}", base=words), {**CHOICES, "method": method})
    with pytest.raises(UserError, match=f"mode=landscape: {name} compares no logits with those of a teacher"):
        look(RunDir(tmp_path / "default" / done["run_id"]))
