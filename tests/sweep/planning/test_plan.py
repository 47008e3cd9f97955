import copy
import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from omegaconf import DictConfig, OmegaConf

from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.config.settings import Settings, from_plain
from dinodiet.config.signature import Node
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.planned import counted
from dinodiet.errors import NotOnDisk, UserError
from dinodiet.io.assets import planned
from dinodiet.io.files import write_json
from dinodiet.io.units import byte_size
from dinodiet.run.parts import build_parts
from dinodiet.store.scores import ScoreFile, write_scores
from dinodiet.sweep.planning.estimate import Estimator, open_data
from dinodiet.sweep.planning.plan import alike, differing, named, plan
from dinodiet.sweep.task import Task, task_of
from tests.running import CHOICES, composed

CONVOLUTIONS = {"_target_": "dinodiet.backbones.timm_backbone", "feature": "pooled"}


def cell(tmp_path: Path, *overrides: str) -> Task:
    """Return a tiny run as the cell of a grid that these overrides make."""
    pairs = [override.lstrip("+").split("=", 1) for override in overrides]
    chosen = {key: value for key, value in pairs if key in CHOICES}
    cfg = copy.deepcopy(chosen_groups(**chosen))
    cfg.outputs_dir, cfg.data_dir = str(tmp_path / "outputs"), str(tmp_path / "data")
    for key, value in pairs:
        if key not in CHOICES:
            OmegaConf.update(cfg, key, OmegaConf.from_dotlist([f"value={value}"]).value, merge=False, force_add=True)
    return task_of(cfg, {**CHOICES, **chosen}, overrides)


@functools.cache
def chosen_groups(**chosen: str) -> DictConfig:
    """Return the configuration of a tiny run with these group files; composing one takes its time."""
    return composed(Path("unused"), *(f"{group}={choice}" for group, choice in chosen.items()))


def with_nodes(settings: Settings, *, model: Node, views: Node | None = None) -> Settings:
    """Return settings with another model, and other views of the method."""
    method = settings.method if views is None else {**settings.method, "views": views}
    return from_plain({**settings.plain, "model": model, "method": method}, settings.choices)


def lines(tasks: list[Task]) -> list[list[str]]:
    """Return the words of the lines of the runs."""
    return [line.split() for line in plan(tasks, full=True).splitlines()[1 : len(tasks) + 1]]


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=diet", "method.trainable=last_1_blocks", "method.head.projection_dim=16"],
        ["method=diet_dual", "method.trainable=all", "method.targets.num_classes=7"],
        ["method=dino", "method.head.out_dim=32", "method.head.hidden_dims=[16,16]", "schedule.batch_size=100"],
        ["method=dino_resnet", "method.head.out_dim=32", "method.trainable=head_only", "schedule.accumulate=2"],
    ],
)
def test_numbers_are_those_of_the_run(tmp_path: Path, overrides: list[str]) -> None:
    found = Estimator()(cell(tmp_path, *overrides).settings())
    parts = build_parts(cell(tmp_path, *overrides).settings())
    backbone = list(parts.method.backbone.parameters())
    assert found.steps == parts.state.clock.total_steps
    assert found.parameters == sum(parameter.numel() for parameter in backbone)
    assert found.trained == sum(parameter.numel() for parameter in backbone if parameter.requires_grad)
    trained = [parameter for group in parts.state.optimizer.param_groups for parameter in group["params"]]
    for parameter in trained:
        parameter.grad = parameter.detach().clone()
    parts.state.optimizer.step()
    kept = [value for state in parts.state.optimizer.state.values() for value in state.values() if value.ndim > 0]
    held = [*parts.method.parameters(), *parts.method.buffers(), *trained, *kept]
    assert found.memory == sum(tensor.numel() * tensor.element_size() for tensor in held)
    assert found.note is None


def test_a_line_says_state_and_needs(tmp_path: Path) -> None:
    tasks = [cell(tmp_path, f"seed={seed}", f"method.loss.label_smoothing={seed / 10}") for seed in range(4)]
    write_json(tasks[0].run_dir.results, {"evaluations": dict.fromkeys(tasks[0].wanted, True)})
    write_json(tasks[1].run_dir.status, {"state": "failed", "reason": "loss is nan", "step": 5, "total_steps": 12})
    write_json(tasks[2].run_dir.status, {"state": "killed", "reason": "preempted", "step": 4, "total_steps": 12})
    title, done, failed, stopped, missing, total, evaluations, left_out = plan(tasks, full=True).splitlines()
    assert title == f"{tasks[0].study}: 4 runs: 1 done, 1 failed, 1 stopped, 1 missing"
    found = Estimator()(tasks[0].settings())
    needs = f"12 steps  {found.parameters / 1e3:.1f} k parameters"  # type: ignore[operator]
    assert done.startswith(f"  done     method.loss.label_smoothing=0.0 seed=0  {needs}")
    assert failed.startswith(f"  failed   method.loss.label_smoothing=0.1 seed=1  {needs}")
    assert failed.endswith("at step 5; loss is nan")
    assert stopped.startswith("  stopped  method.loss.label_smoothing=0.2 seed=2")
    assert missing.startswith("  missing  method.loss.label_smoothing=0.3 seed=3")
    assert total == f"48 steps in all, 27 of them to do; largest peak {byte_size(found.peak or 0)}"
    assert evaluations == "8 evaluations in all, 8 of them to do"
    assert "peak: with activations" in left_out


def test_only_what_differs_is_named(tmp_path: Path) -> None:
    both = "schedule.epochs=1"
    tasks = [cell(tmp_path, both, *own) for own in (["method=diet"], ["method=dino"], ["seed=1", "method=diet"])]
    assert [named([one]) for one in differing(tasks)] == ["method=diet", "method=dino", "method=diet seed=1"]
    assert plan(tasks[:1]).splitlines()[1].split()[1] == tasks[0].cell.run_id


def test_runs_that_need_the_same_are_one_line(tmp_path: Path) -> None:
    values = [(seed, smoothing, epochs) for epochs in (1, 2) for smoothing in (0.0, 0.2) for seed in range(4)]
    tasks = [
        cell(tmp_path, f"schedule.epochs={epochs}", f"method.loss.label_smoothing={smoothing}", f"seed={seed}")
        for seed, smoothing, epochs in values
    ]
    write_json(tasks[0].run_dir.results, {"evaluations": dict.fromkeys(tasks[0].wanted, True)})
    write_json(tasks[9].run_dir.status, {"state": "failed", "reason": "loss is nan"})
    title, *groups, _, _, explained = plan(tasks).splitlines()
    words = [re.split(r"  +", line.strip())[:2] for line in groups]
    assert words == [
        ["1 done, 7 missing", "schedule.epochs=1 method.loss.label_smoothing=0.0,0.2 seed=0..3"],
        ["3 missing", "schedule.epochs=2 method.loss.label_smoothing=0.0 seed=0,2,3"],
        ["failed", "schedule.epochs=2 method.loss.label_smoothing=0.0 seed=1"],
        ["4 missing", "schedule.epochs=2 method.loss.label_smoothing=0.2 seed=0..3"],
    ]
    assert len(plan(tasks, full=True).splitlines()) == 16 + 4
    assert (title.rpartition("/")[2], "plan=full" in explained) == (
        "default: 16 runs: 1 done, 1 failed, 14 missing",
        True,
    )


def test_a_line_names_no_run_that_is_not_there() -> None:
    cells = [{"a": "1", "b": "1"}, {"a": "1", "b": "2"}, {"a": "2", "b": "2"}, {"b": "1"}]
    groups = alike(cells, [["same"]] * 4)
    assert groups == [[0, 1], [2], [3]]
    assert [named([cells[number] for number in group]) for group in groups] == ["a=1 b=1,2", "a=2 b=2", "b=1"]
    assert alike(cells, [["same"], ["same"], ["other"], ["same"]]) == [[0, 1], [2], [3]]
    many = [{"a": str(10**number)} for number in range(12)]
    assert named(many) == "a=1,..,100000000000 (12 values)"


def test_all_impossible_cells_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {
        "seed=0": None,
        "dataset.image_size=33": "model.image_size: 33 (image_size of",
        "dataset.limit=5000": "dataset.limit: 5000; 1000 images",
        "+method.views.size=64": "method.views.size: 64 pixels is more than",
        "method.trainable=last_99_blocks": "method.trainable: 'last_99_blocks', but",
        "eval.knn.k=65": "eval.knn.k: 65; there are only 64",
        "schedule.lr={_target_: dinodiet.schedules.Cosine, value: 1, warmup_steps: 1, warmup_epochs: 1}": "are all set",
        "model.weights=/no/such/file.pth": "model.weights: no file",
        "schedule.optimizer._target_=torch.optim.AdamX": "schedule.optimizer._target_: 'torch.optim.AdamX' cannot be",
    }
    with pytest.raises(UserError) as caught:
        plan([cell(tmp_path, override) for override in reasons])
    assert str(caught.value).startswith("8 of 9 runs cannot be built: dataset.image_size=33: ")
    assert "\n" not in str(caught.value)
    printed = capsys.readouterr().out.splitlines()
    for line, (override, reason) in zip(printed[1:], reasons.items(), strict=False):
        assert override in line
        assert line.split()[0] == ("refused" if reason else "missing")
        assert (reason or "12 steps") in line
        assert (reason or "") in str(caught.value)
    assert "12 steps in all" in printed[len(reasons) + 1]
    assert not list(tmp_path.iterdir())


class TestDataThatIsNotHere:
    def test_sizes_are_taken_as_published(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for place in ("dinodiet.data.sources.medmnist._download", "dinodiet.data.sources.torchvision._download"):
            monkeypatch.setattr(place, lambda *_: pytest.fail("a download was tried"))
        names = ("dataset=pathmnist", "dataset=cifar100", "dataset=chestmnist")
        tasks = [cell(tmp_path, name, "dataset.limit=1000") for name in names]
        tasks.append(cell(tmp_path, "dataset=bloodmnist", "dataset.limit=null"))
        for row, steps in zip(lines(tasks), ["186", "186", "186", "2,241"], strict=True):
            assert row[0] == "missing"
            assert row[-6:] == ["data", "not", "found,", "sizes", "as", "published"]
            assert steps in row
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("dataset", "classes", "train", "side", "steps"),
        [
            ("food101", 101, 75_750, None, 12_780),
            ("fgvc_aircraft", 100, 3_334, None, 624),
            ("plantnet300k", 1_081, 243_916, None, 45_732),
            ("imagenet", 1_000, 1_281_167, None, 237_816),
            ("galaxy10_decals", 10, 15_962, 256, 2_658),
        ],
    )
    def test_sizes_of_files_are_those_of_their_yaml(
        self, tmp_path: Path, dataset: str, classes: int, train: int, side: int | None, steps: int
    ) -> None:
        settings = cell(tmp_path, f"dataset={dataset}", "dataset.limit=null").settings()
        opened = open_data(settings.dataset)
        assert (opened.note, opened.counted) == ("data not found, sizes as published", True)
        spec, data = opened.data.spec, opened.data
        assert (spec.num_labels, spec.native_size, spec.image_size) == (classes, side, None)
        held_out = len(data.val) if settings.dataset["source"]["published"].get("val") is None else 0
        assert len(data.train) + held_out == train
        assert Estimator()(settings).steps == steps
        assert not list(tmp_path.iterdir())

    def test_the_level_of_aircraft_decides_their_classes(self, tmp_path: Path) -> None:
        settings = cell(tmp_path, "dataset=fgvc_aircraft", "dataset.source.level=family").settings()
        assert open_data(settings.dataset).data.spec.num_labels == 70

    @pytest.mark.parametrize(
        "overrides", [["dataset=crop14_balance"], ["dataset=food101", "dataset.source.published=null"]]
    )
    def test_what_was_not_published_is_not_known(self, tmp_path: Path, overrides: list[str]) -> None:
        found = Estimator()(cell(tmp_path, *overrides, "dataset.limit=null").settings())
        assert (found.steps, found.note) == (None, "data not found")

    def test_too_large_a_limit_is_refused_all_the_same(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"^dataset.limit: 1000; 546 images"):
            Estimator()(cell(tmp_path, "dataset=breastmnist", "dataset.limit=1000").settings())

    @pytest.mark.parametrize(("limit", "steps"), [("50", "9"), ("null", "?")])
    def test_of_unknown_sets_the_limit_is_known(self, tmp_path: Path, limit: str, steps: str) -> None:
        task = cell(tmp_path, "dataset=folder", f"dataset.source.root={tmp_path}/no", f"dataset.limit={limit}")
        text = plan([task])
        assert f"  {steps} steps" in text
        assert "data not found" in text
        assert ("1 runs of unknown length" in text) == (steps == "?")

    @pytest.mark.parametrize(("number", "note"), [(40, "data not found, sizes as published"), (None, "data not found")])
    def test_a_source_of_ones_own_says_its_counts(self, tmp_path: Path, number: int | None, note: str) -> None:
        config = cell(tmp_path, "dataset.limit=null").config
        config["dataset"]["source"] = {"_target_": f"{__name__}.own_source", "number": number}
        opened = open_data(config["dataset"])
        assert (opened.note, opened.counted) == (note, number is not None)
        assert number is None or len(opened.data.test) == number

    def test_its_settings_are_checked(self, tmp_path: Path) -> None:
        for override in ("dataset.source.size=32", "dataset.val_fraction=7"):
            with pytest.raises(UserError, match=r"dataset.*(32|7)"):
                Estimator()(cell(tmp_path, "dataset=pathmnist", override).settings())


def _own_counts(*, number: int | None) -> RawSplits:
    return counted("own", None if number is None else {"classes": 2, "train": 10, "test": number})


@planned(counts=_own_counts)
def own_source(*, number: int | None) -> RawSplits:
    raise NotOnDisk("own: its files are elsewhere")


def write_labels(folder: Path, **changes: Any) -> None:
    folder.mkdir()
    labels = {f"{split}_labels": np.arange(90)[:, None] % 9 for split in ("train", "val", "test")}
    np.savez(folder / "pathmnist.npz", **{**labels, **changes})


def test_of_medmnist_only_labels_are_read(tmp_path: Path) -> None:
    write_labels(tmp_path / "data", train_labels=np.arange(70)[:, None] % 9)  # there are no images in this file
    own = ("dataset=pathmnist", "dataset.limit=null", "dataset.source.published=null")
    found = Estimator()(cell(tmp_path, *own).settings())
    assert (found.steps, found.note) == (12, None)
    with pytest.raises(UserError, match=r"source: pathmnist: .* is not the published set"):
        Estimator()(cell(tmp_path, "dataset=pathmnist").settings())


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pathmnist.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"pathmnist.npz is broken"):
        Estimator()(cell(tmp_path, "dataset=pathmnist").settings())


def test_weights_are_neither_needed_nor_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.backbones.weights.timm._from_file", lambda _: pytest.fail("weights were read"))
    wide = ["+model.model_args=null", "model.patch_size=null", "dataset.image_size=null", "model.weights=hub"]
    found = Estimator()(cell(tmp_path, *wide).settings())
    assert found.parameters == 5_524_416  # at the 224 pixels of the weights, not the digits' own size


@pytest.mark.parametrize(
    ("size", "weights", "pixels"),
    [("mobilevit_xxs.cvnets_in1k", "hub", 256), ("resnet18.tv_in1k", "hub", 224), ("resnet18.tv_in1k", "none", 32)],
)
def test_the_input_is_that_of_the_run(tmp_path: Path, size: str, weights: str, pixels: int) -> None:
    settings = cell(tmp_path, "dataset.image_size=null").settings()  # the digits have 8 x 8 pixels
    model = {**CONVOLUTIONS, "size": size, "names": {size: size}, "weights": weights}
    assert backbone_on_meta(model, open_data(settings.dataset).data.spec).input.size == pixels
    with pytest.raises(UserError, match=rf"views.size: {pixels + 1} pixels is more than"):
        Estimator()(with_nodes(settings, model=model, views={**settings.method["views"], "size": pixels + 1}))


def test_weights_that_were_never_released_are_refused(tmp_path: Path) -> None:
    model = {**CONVOLUTIONS, "size": "035", "names": {"035": "mobilenetv2_035"}, "weights": "hub"}
    with pytest.raises(UserError, match=r"^model.weights: hub, but mobilenetv2_035 has no"):
        Estimator()(with_nodes(cell(tmp_path).settings(), model=model))


def test_what_cells_share_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    create = timm.create_model

    def counted(name: str, **arguments: Any) -> Any:
        built.append(name)
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", counted)
    values = [(seed, smoothing) for seed in range(3) for smoothing in (0.1, 0.2)]
    tasks = [cell(tmp_path, f"seed={seed}", f"method.loss.label_smoothing={value}") for seed, value in values]
    assert len({task.cell.run_id for task in tasks}) == 6
    assert len(set(map(json.dumps, lines(tasks)))) == 6
    assert len(built) == 1


def test_cuda_need_not_be_here(tmp_path: Path) -> None:
    assert Estimator()(cell(tmp_path, "device=cuda:3").settings()).steps == 12
    with pytest.raises(UserError, match=r"^device: 'gpu'"):
        Estimator()(cell(tmp_path, "device=gpu").settings())


def test_evaluations_on_budgets_are_counted_and_those_that_are_done_are_not_to_do(tmp_path: Path) -> None:
    words = ["eval=[knn,geometry]", "eval.labels_per_class=[1,2,all]", "eval.label_seeds=2", "eval.knn.k=1"]
    task = task_of(composed(tmp_path, *words), CHOICES, words)

    def told() -> str:
        return plan([task]).splitlines()[3]

    assert told() == "12 evaluations in all, 12 of them to do"  # 1 and 2 a class twice, all once; geometry once
    keys = [key for key in task.wanted if key.startswith("initial_")]
    knn = [key for key in keys if "_knn_" in key]
    for key in knn[:2]:
        write_scores(task.run_dir, ScoreFile(key, "knn", "initial", {}, test={}, val={}))
    whole = next(key for key in keys if "_geometry_" in key).partition("+")[0]
    write_scores(task.run_dir, ScoreFile(whole, "geometry", "initial", {}, test={}, val={}, fits_labels=False))
    assert told() == "12 evaluations in all, 9 of them to do"


def test_evaluations_on_budgets_of_labels_that_are_not_here_are_not_counted(tmp_path: Path) -> None:
    words = ["dataset=bloodmnist", "eval.labels_per_class=[1,2]", "eval.knn.k=1"]
    task = task_of(composed(tmp_path, *words), {**CHOICES, "dataset": "bloodmnist"}, words)
    for key in task.wanted:  # scored where the labels are
        write_scores(task.run_dir, ScoreFile(key, "knn", "initial", {}, test={}, val={}))
    found = plan([task]).splitlines()[3]
    assert found == "0 evaluations in all, 0 of them to do; runs not counted, whose labels are not here: 1"
