"""What the command line overrides of a run that is scored again."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dinodiet.config.gate import gate
from dinodiet.config.saved import write_settings
from dinodiet.config.schema import EXCHANGE
from dinodiet.config.settings import Settings, settings_of
from dinodiet.errors import UserError
from tests.running import CHOICES, composed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the directory of a run with settings of its own."""
    settings = settings_of(composed(tmp_path, "dataset.limit=48", "eval=[knn,kmeans]"), CHOICES)
    write_settings(settings, tmp_path / "config.yaml")
    return tmp_path


def scored(run: Path, *words: str, **choices: str) -> Settings:
    """Return the settings under which a command with these words scores the run."""
    own = ("mode=evaluate", f"checkpoint={run}", *words)
    return gate(composed(run, *own), {**CHOICES, **choices}, own)


def test_a_run_keeps_its_own_settings(run: Path) -> None:
    settings = scored(run)
    assert (settings.dataset["limit"], set(settings.evaluation.evaluators)) == (48, {"knn", "kmeans"})
    assert settings.evaluation.dataset is None


def test_tuned_settings_say_nothing_of_a_run_that_is_trained(run: Path) -> None:
    assert scored(run, "tuned=none").plain == scored(run).plain


@pytest.mark.parametrize("words", [("dataset=mnist", "eval=[linear]"), ("eval=[linear]", "dataset=mnist")])
def test_the_order_of_words_does_not_matter(run: Path, words: tuple[str, ...]) -> None:
    settings = scored(run, *words, dataset="mnist")
    assert settings.dataset["limit"] == 48
    assert settings.evaluation_dataset["source"]["dataset"] == "MNIST"
    assert set(settings.evaluation.evaluators) == {"linear"}


def test_a_part_of_the_dataset_is_changed_for_the_scores_alone(run: Path) -> None:
    settings = scored(run, "dataset.split_seed=3")
    assert (settings.dataset["split_seed"], settings.evaluation_dataset["split_seed"]) == (0, 3)
    assert settings.evaluation_dataset["limit"] == 48


def test_an_evaluator_can_be_left_out_and_a_key_added(run: Path) -> None:
    assert set(scored(run, "~eval.knn").evaluation.evaluators) == {"kmeans"}
    assert scored(run, "++eval.knn.k=3").evaluation.evaluators["knn"]["k"] == 3


def test_reference_images_are_named_by_their_group(run: Path) -> None:
    word = "dataset@eval.reference.dataset=mnist"
    for words in (("eval=[reference]", word), (word, "eval=[reference]")):
        settings = scored(run, *words)
        (node,) = settings.evaluation.evaluators.values()
        assert node["dataset"]["source"]["dataset"] == "MNIST"
        assert settings.evaluation.dataset is None and settings.dataset["limit"] == 48


def changed(run: Path, key: str, value: Any) -> None:
    """Change what the run's configuration says of a key."""
    saved = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(saved, key, value, merge=True, force_add=True)
    OmegaConf.save(saved, run / "config.yaml")


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("model", "os.system"),
        ("schedule.optimizer", "builtins.exec"),
        ("eval.knn", "torch.load"),
        ("tracker", "dinodiet.io.files.write_json"),
        ("dataset.source", "dinodiet.data.sources.download._os.system"),
        ("dataset.views", "dinodiet.io.scratch.shutil.rmtree"),
        ("method.views", "dinodiet.data.sources.torchvision.shutil.rmtree"),
        ("method.extra", "torch.optim.optimizer.os.system"),
        ("method.loss", "dinodiet.run.parts.build"),
        ("model.factory", "a_lab.Network"),
    ],
)
def test_a_run_from_elsewhere_names_own_parts_only(run: Path, key: str, target: str) -> None:
    changed(run, key, {"_target_": target})
    with pytest.raises(UserError, match=rf"config.yaml: {key}._target_: '{target}' is none of dinodiet's own.*trust_t"):
        scored(run)


def test_a_node_in_a_list_is_found_and_what_the_command_names_is_trusted(run: Path) -> None:
    changed(run, "eval.knn", {"_target_": "dinodiet.evals.knn.KNN", "k": [{"_target_": "os.system"}]})
    with pytest.raises(UserError, match=r"os\.system"):
        scored(run)
    changed(run, "eval.knn", {"_target_": "a_lab.Evaluator", "k": 3})
    assert "a_lab.Evaluator" in str(scored(run, "trust_targets=true").evaluation.evaluators)
    assert "a_lab.Evaluator" in str(scored(run, "++eval.other._target_=a_lab.Evaluator").evaluation.evaluators)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no configuration of a run"),
        ("- a list", "no configuration of a run"),
        ("seed: 1\nchoices: {}", "lacks model, dataset"),
        ("a: &a [1]\nb: *a", "the alias \\*a"),
        ("[" * 60 + "]" * 60, "51 levels"),
        ("a: !!python/object/apply:os.system [true]", "python/object"),
        ("a: [", "no YAML"),
        ("\x00\x01", "no YAML"),
        ("a" * (2 << 20), "2.0 MiB"),
    ],
)
def test_what_no_run_wrote_is_refused_by_name(run: Path, text: str, told: str) -> None:
    (run / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=f"config.yaml: .*{told}"):
        scored(run)


def test_what_a_machine_holds_is_not_looked_up(run: Path) -> None:
    changed(run, "tracker.project", "x")
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("project: x", "project: ${oc.env:HOME}"))
    with pytest.raises(UserError, match=r"\$\{oc.env:HOME\}"):
        scored(run)


def test_a_run_from_before_a_key_that_changes_nothing_is_scored(run: Path) -> None:
    saved: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    older = {key: value for key, value in saved.items() if key not in EXCHANGE}
    OmegaConf.save(OmegaConf.create(older), run / "config.yaml")
    assert {key: scored(run).plain[key] for key in EXCHANGE} == EXCHANGE


@pytest.mark.parametrize(("key", "value"), [("seed", -1), ("eval.knn.k", "many"), ("nonsense", 3)])
def test_values_of_a_run_are_checked_as_those_of_a_command(run: Path, key: str, value: Any) -> None:
    changed(run, key, value)
    with pytest.raises(UserError, match=rf"config.yaml: {key}"):
        scored(run)
