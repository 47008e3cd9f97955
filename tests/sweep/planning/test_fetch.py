"""mode=fetch from the command line, against a hub and a publisher on loopback; then runs without any network."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from medmnist import INFO
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save

from dinodiet.config.build import declared
from dinodiet.config.settings import settings_of
from dinodiet.config.words import as_choice
from dinodiet.data.dataset import RawSplits
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset, needs
from dinodiet.run.backbone import build_backbone
from dinodiet.run.parts import open_data
from dinodiet.store.rundir import RunDir
from dinodiet.sweep.command import cli
from dinodiet.sweep.planning.fetch import needs_of, size_on_disk
from dinodiet.types import Backbone, Data
from tests.backbones.hf.tiny import copied
from tests.data.sources.test_medmnist import write
from tests.places import ROOT
from tests.running import CHOICES, TINY, composed, run
from tests.sweep.cells import tasks
from tests.web import Web, serving

REPO = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
SET = (
    "dataset=bloodmnist",
    "dataset.source.size=64",
    "dataset.limit=20",
    "model.weights=hub",
    "dataset.source.published=null",
)


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Publish the weights of the tiny transformer, and a small set."""
    (tmp_path / "shelf").mkdir()
    content = write(tmp_path / "shelf", "bloodmnist", 64).read_bytes()
    with serving(tmp_path, monkeypatch) as found:
        found.files["/bloodmnist_64.npz"] = content
        entry64 = {"url_64": f"{found.address}/bloodmnist_64.npz", "MD5_64": hashlib.md5(content).hexdigest()}
        monkeypatch.setitem(INFO, "bloodmnist", {**INFO["bloodmnist"], **entry64})
        yield found


MAMBAVISION = "dinodiet.backbones.architectures.mambavision.mambavision"


def opened(cfg: DictConfig) -> tuple[Data, Backbone]:
    """Return the data and the backbone of a composed run."""
    settings = settings_of(cfg, CHOICES)
    data = open_data(settings.dataset)
    return data, build_backbone(settings, data.spec)


def weights(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Return the values of the tiny transformer, drawn by chance."""
    _, backbone = opened(composed(tmp_path, "seed=5", "dataset.image_size=32"))
    assert isinstance(backbone, torch.nn.Module)
    return {key.removeprefix("model."): value.contiguous() for key, value in backbone.state_dict().items()}


def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str
) -> tuple[int, list[str], str]:
    """Return the exit code of the command line, the lines it printed, and what it said on stderr."""
    options, words = words[: words.count("-m")], tuple(word for word in words if word != "-m")
    places = (f"outputs_dir={tmp_path}/outputs", f"data_dir={tmp_path}/data", "mode=fetch")
    monkeypatch.setattr(sys, "argv", ["launch.py", *options, *TINY, *words, *places])
    capfd.readouterr()
    code = cli()
    GlobalHydra.instance().clear()
    printed = capfd.readouterr()
    assert not (tmp_path / "outputs").exists()  # no run directories, no grid, no locks
    return code, printed.out.splitlines(), printed.err


def test_a_grid_fetches_each_thing_once_and_its_runs_need_no_network(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    state = weights(tmp_path)
    kept = web.publish(REPO, "model.safetensors", save(state))
    grid = ("-m", *SET, "seed=0,1", "model.drop_path=0.0,0.1", "dataset.image_size=32")
    code, lines, errors = command(tmp_path, monkeypatch, capfd, *grid)
    assert (code, errors) == (0, "")
    contents = [get for get in web.gets() if "/resolve/" not in get[0]]  # the hub sends on from there
    assert sorted(contents) == [("/bloodmnist_64.npz", ""), (kept, "")]
    assert lines[0] == "4 runs need:"
    assert lines[2].split()[:3] == ["fetched", "vit_tiny", f"{REPO}/model.safetensors,"]
    assert lines[4].split()[:3] == ["fetched", "bloodmnist", "bloodmnist_64,"]
    assert lines[4].endswith(f"KiB, {tmp_path}/data/bloodmnist_64.npz")
    assert lines[5] == "2 fetched"

    web.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, lines, _ = command(tmp_path, monkeypatch, capfd, *grid)
    assert code == 0
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["already", "there", "vit_tiny"],
        ["already", "there", "bloodmnist"],
    ]
    cfg = composed(tmp_path, *SET, f"data_dir={tmp_path}/data", "dataset.image_size=32")
    data, backbone = opened(cfg)
    assert not web.asked
    assert len(data.train) == 20
    assert isinstance(backbone, torch.nn.Module)
    assert all(torch.equal(value, state[key.removeprefix("model.")]) for key, value in backbone.state_dict().items())


def test_weights_of_a_teacher_are_fetched_and_counted(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = web.publish(REPO, "model.safetensors", save(weights(tmp_path)))
    teacher = ("method=distill", "method.teacher.model=vit_tiny", "method.teacher.model.weights=hub")
    words = [as_choice(word) for word in teacher]
    code, lines, _ = command(tmp_path, monkeypatch, capfd, *SET, "model.weights=none", *words)
    assert code == 0 and (kept, "") in web.gets()
    (fetched,) = [line for line in lines if line.split()[:2] == ["fetched", "distill"]]
    assert f"{REPO}/model.safetensors" in fetched
    assert lines[-1] == "1 nothing, 2 fetched"


def test_what_cannot_be_fetched_is_named_and_the_rest_is_fetched(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    words = ("-m", *SET, "seed=0,1", "model.weights=hub,none,/no/such.pth", "dataset.source.size=64,128")
    monkeypatch.setitem(INFO["bloodmnist"], "url_128", f"{web.address}/nothing.npz")
    code, lines, errors = command(tmp_path, monkeypatch, capfd, *words)
    assert code == 1
    failed = [line for line in lines if line.startswith("  FAILED")]
    assert f"a copy of {web.address}/{REPO}/resolve/main/model.safetensors is used with weights=" in failed[0]
    assert "weights: no file /no/such.pth" in failed[1]
    assert f"{tmp_path}/data/bloodmnist_128.npz not found" in failed[2] and "put it there" in failed[2]
    assert any(line.startswith("  nothing") and line.endswith("weights=none") for line in lines)
    assert (tmp_path / "data" / "bloodmnist_64.npz").is_file()
    assert lines[-1] == "3 FAILED, 1 nothing, 1 fetched"
    assert errors.startswith("error: mode=fetch: 3 of 5 could not")
    assert errors.endswith(": vit_tiny, bloodmnist\n")
    assert errors.count("\n") == 1


def test_a_single_run_whose_parts_need_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, lines, errors = command(tmp_path, monkeypatch, capfd)
    assert (code, errors) == (0, "")
    assert [line.split() for line in lines[1:3]] == [
        ["nothing", "vit_tiny", "weights=none"],
        ["nothing", "digits", "comes", "with", "scikit-learn"],
    ]


@pytest.mark.slow
def test_what_a_run_needs_is_what_its_own_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_id = run(composed(tmp_path / "runs", "schedule.epochs=1"))["run_id"]
    place = tmp_path / "runs" / "default" / run_id

    def fetched(*words: str) -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "argv", ["launch.py", "mode=fetch", *words, f"data_dir={tmp_path}/data"])
        capfd.readouterr()
        code = cli()
        GlobalHydra.instance().clear()
        printed = capfd.readouterr()
        return code, printed.out.splitlines(), printed.err

    code, lines, _ = fetched(f"checkpoint={place}")
    assert (code, lines[:2]) == (0, [f"fetching for {place} with its own configuration", "1 run needs:"])
    assert [line.split()[:2] for line in lines[2:4]] == [["nothing", "vit_tiny"], ["nothing", "digits"]]
    code, lines, errors = fetched(f"checkpoint={place}", "dataset@eval.dataset=stanford_cars")
    assert (code, errors.count("\n")) == (1, 1)
    assert sum("own configuration; overridden" in line for line in lines) == 1
    assert any(line.startswith("  FAILED") and "stanford_cars" in line for line in lines)
    assert fetched(f"checkpoint={tmp_path}")[2].startswith(f"error: checkpoint: {tmp_path} lies beside no config.yaml")
    code, _, errors = fetched(f"checkpoint={tmp_path}/nowhere")
    assert (code, errors) == (1, f"error: checkpoint: {tmp_path}/nowhere does not exist\n")


@pytest.mark.slow
def test_a_model_that_is_gone_is_not_needed_where_the_run_rebuilds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = copied("vit", tmp_path / "model")
    base = ("model=hf", f"model.name={folder}", *TINY[1:3], *TINY[5:])
    done = run(composed(tmp_path / "runs", "schedule.epochs=1", base=base), {**CHOICES, "model": "hf"})
    shutil.rmtree(folder)
    place = tmp_path / "runs" / "default" / done["run_id"]
    monkeypatch.setattr(sys, "argv", ["launch.py", "mode=fetch", f"checkpoint={place}"])
    capfd.readouterr()
    assert cli() == 0
    GlobalHydra.instance().clear()
    line, *_, last = capfd.readouterr().out.splitlines()[2:]
    assert (
        line.startswith("  not needed     hf") and f"{place} rebuilds its model from its own files (model.name" in line
    )
    assert last == "1 not needed, 1 nothing"
    RunDir(place).encoder.unlink()
    assert cli() == 1
    GlobalHydra.instance().clear()
    assert capfd.readouterr().out.splitlines()[-1] == "1 FAILED, 1 nothing"


def test_stopping_it_is_one_line(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dinodiet.data.sources.medmnist.transfer", stop)
    code, _, errors = command(tmp_path, monkeypatch, capfd, *SET, "model.weights=none")
    assert code == 1
    assert errors.startswith("error: mode=fetch: stopped")
    assert errors.endswith("\n")
    assert errors.count("\n") == 1


def test_every_model_and_dataset_says_what_it_needs() -> None:
    for path in sorted([*ROOT.glob("conf/model/*.yaml"), *ROOT.glob("conf/dataset/[!_]*.yaml")]):
        node: Any = OmegaConf.load(path)
        if target := node.get("_target_") or node.get("source", {}).get("_target_"):
            assert "assets" in get_object(target).declared, path


def test_no_7b_model_is_built_for_it(tmp_path: Path) -> None:
    node = {"_target_": "dinodiet.backbones.architectures.aim.aim", "size": "7B"}
    (asset,) = declared(node, "model", "assets")[0]()
    assert asset.name == "apple/AIM/aim_7b_5bimgs_attnprobe_backbone.pth"
    (asset,) = declared(
        {"_target_": MAMBAVISION, "size": "L3_512_21k"},
        "model",
        "assets",
    )[0]()
    assert asset.name == "nvidia/MambaVision-L3-512-21K/mambavision_L3_21k_740m_512.pth.tar"
    node = {**OmegaConf.to_container(OmegaConf.load(ROOT / "conf/model/dinov3.yaml")), "size": "7b"}  # type: ignore[dict-item]
    (asset,) = declared(node, "model", "assets")[0]()
    assert asset.name == "timm/vit_7b_patch16_dinov3.lvd1689m/model.safetensors"


def test_a_part_of_ones_own_says_what_it_needs_or_that_it_does_not(tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, ())
    task.config["dataset"] = {"_target_": f"{__name__}.wrapper", "inner": {"_target_": f"{__name__}.own", "side": 3}}
    task.config["model"] = {"_target_": f"{__name__}.wrapper", "inner": None}
    model, dataset = needs_of([task, task])
    assert isinstance(model.what, Asset) and "does not declare its assets" in model.what.place
    assert model.what.get is None
    assert isinstance(dataset.what, Asset) and dataset.what.name == "own-3-blue"


def test_wrong_values_are_told_like_everywhere() -> None:
    with pytest.raises(UserError, match=r"^model.size: 'huge'; choose from"):
        declared({"_target_": MAMBAVISION, "size": "huge"}, "model", "assets")[0]()
    with pytest.raises(UserError, match=r"^model.sise: no such key"):
        declared({"_target_": MAMBAVISION, "sise": "T"}, "model", "assets")


def test_sizes_are_added_up_to_a_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b/c", "b/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 700)
    assert size_on_disk(tmp_path / "a") == "700 B"
    assert size_on_disk(tmp_path) == "2.1 KiB"
    monkeypatch.setattr("dinodiet.sweep.planning.fetch.COUNTED", 2)
    assert size_on_disk(tmp_path) == "more than 1.4 KiB"


def _own_assets(*, side: int, colour: str) -> list[Asset]:
    return [Asset(f"own-{side}-{colour}", "here")]


@needs(_own_assets)
def own(*, side: int, colour: str = "blue") -> RawSplits:
    raise AssertionError("it was built")


def wrapper(*, inner: Any) -> None:
    raise AssertionError("it was built")
