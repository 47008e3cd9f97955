"""What a run would need is what it takes, without weights or images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm

from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.planned import counted
from dinodiet.errors import NotOnDisk, UserError
from dinodiet.io.assets import planned
from dinodiet.run.parts import build_parts
from dinodiet.sweep.planning.estimate import Estimator, open_data
from dinodiet.sweep.planning.plan import plan

from .cells import cell, lines, with_nodes

CONVOLUTIONS = {"_target_": "dinodiet.backbones.timm_backbone", "feature": "pooled"}


@pytest.mark.slow
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
