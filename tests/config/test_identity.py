from pathlib import Path

import pytest

from dinodiet.config.identity import canonical, digest, run_id, score_id, training_identity, wanted_scores
from dinodiet.config.settings import Settings, settings_of
from tests.running import CHOICES, composed

NEUTRAL = (
    *("device=auto", "num_workers=3", "grad_checkpointing=true", "decoded_gib=0", "tracker=wandb", "name=x"),
    *("data_dir=/elsewhere", "checkpoint_minutes=1", "eval=[knn,kmeans]", "eval.batch_size=7", "eval.validation=false"),
    *("eval.every_epochs=2", "eval.knn.k=3", "dataset@eval.dataset=cifar10", "++model.published={digits: {}}"),
    "record=[losses]",
    "deterministic=true",
)
CHANGING = (
    *("seed=1", "schedule.lr=0.1", "dataset.limit=32", "dataset.split_seed=3", "precision=bf16"),
    *("schedule.accumulate=2", "method.views.strength=1", "++model.image_size=64", "method=dino"),
    *("sync_batchnorm=false", "reduce_dtype=bf16"),
)


def settings(tmp_path: Path, *overrides: str, **choices: str) -> Settings:
    return settings_of(composed(tmp_path, *overrides), {**CHOICES, **choices})


@pytest.mark.parametrize("override", NEUTRAL)
def test_what_changes_no_weight_keeps_the_run(tmp_path: Path, override: str) -> None:
    assert run_id(settings(tmp_path, override)) == run_id(settings(tmp_path))


@pytest.mark.parametrize("override", CHANGING)
def test_what_changes_the_weights_makes_another_run(tmp_path: Path, override: str) -> None:
    assert training_identity(settings(tmp_path, override)) != training_identity(settings(tmp_path))


def test_a_published_set_is_the_same_wherever_it_lies_and_however_it_came_there(tmp_path: Path) -> None:
    here, there = (
        settings(tmp_path, "dataset=cifar10", f"data_dir={folder}", f"dataset.source.download={download}")
        for folder, download in (("data", "true"), ("/mnt/data", "false"))
    )
    assert training_identity(here)["dataset"] == training_identity(there)["dataset"]


def test_scores_beside_reference_images_are_the_same_wherever_these_lie(tmp_path: Path) -> None:
    words = ("eval=[reference]", "dataset@eval.reference.dataset=cifar10")
    here, there = (settings(tmp_path, *words, f"data_dir={folder}") for folder in ("data", "/mnt/data"))
    assert score_id(here, "reference", "final") == score_id(there, "reference", "final")
    assert score_id(settings(tmp_path, words[0]), "reference", "final") != score_id(here, "reference", "final")


def test_arguments_equal_to_their_defaults_are_left_out() -> None:
    node = {"_target_": "dinodiet.evals.knn.KNN", "k": 20, "temperature": 0.1}
    assert canonical(node) == {"_target_": "dinodiet.evals.knn.KNN", "temperature": 0.1}
    assert canonical({"a": 2.0, "b": [True, 0.5], "c": {"_partial_": True}}) == {"a": 2, "b": [True, 0.5], "c": {}}
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_the_arguments_of_an_inlined_node_count_as_those_of_what_holds_it() -> None:
    student = {"_target_": "dinodiet.methods.parts.student.Student", "_partial_": True, "drop_path": None}
    dino = {"_target_": "dinodiet.methods.dino.DINO", "koleo": 0.0}
    assert canonical({**dino, "student": student}) == canonical(dino)
    assert canonical({**dino, "student": {**student, "drop_path": 0.2}}) == {**canonical(dino), "drop_path": 0.2}
    shared = canonical({**dino, "student": {**student, "trainable": "norms"}})  # a name that both have
    assert shared == {**canonical(dino), "student.trainable": "norms"}
    own = {"_target_": "mine.Student", "drop_path": None}
    assert canonical({**dino, "student": own}) == {**canonical(dino), "student": own}


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        *((word, True) for word in ("eval.knn.k=3", "dataset.limit=32", "precision=bf16")),
        ("dataset@eval.dataset=mnist", True),
        *((word, False) for word in ("eval.batch_size=3", "eval.validation=false", "schedule.epochs=9")),
    ],
)
def test_a_score_is_named_by_evaluator_and_data(tmp_path: Path, override: str, changes: bool) -> None:
    one, other = settings(tmp_path), settings(tmp_path, override)
    assert (score_id(one, "knn", "final") != score_id(other, "knn", "final")) == changes
    assert len(set(wanted_scores(one))) == 2


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (("mobilevit_xs", "model.size=s"), "mobilevit-s"),
        (("mobilevit_xxs", "model.size=s"), "mobilevit-s"),
        (("mobilevit_xs",), "mobilevit-xs"),
        (("efficientnet_lite0",), "efficientnet_lite0"),
        (("resnet50",), "resnet-50"),
        (("dinov2", "model.size=base"), "dinov2-base"),
    ],
)
def test_a_name_says_which_model_it_is(tmp_path: Path, model: tuple[str, ...], label: str) -> None:
    cfg = composed(tmp_path, f"model={model[0]}", *model[1:], base=())
    name = run_id(settings_of(cfg, {**CHOICES, "model": model[0]}))
    assert name.startswith(f"{label}_digits_diet_seed0_")


def test_two_ways_to_ask_for_one_model_are_one_run(tmp_path: Path) -> None:
    one, other = (
        run_id(settings_of(composed(tmp_path, f"model={name}", "model.size=s", base=()), {**CHOICES, "model": name}))
        for name in ("mobilevit_xs", "mobilevit_xxs")
    )
    assert one == other


def test_a_name_says_which_dataset_it_is(tmp_path: Path) -> None:
    other = settings(tmp_path, "dataset=pathmnist", "dataset.source.name=dermamnist", dataset="pathmnist")
    assert "_pathmnist-dermamnist_" in run_id(other)
    own = settings(tmp_path, "dataset=folder", "dataset.source.root=/data/my galaxies", dataset="folder")
    assert "_folder-my-galaxies_" in run_id(own)
