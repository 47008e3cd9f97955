"""What the command line overrides of a run that is scored again."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dinodiet.config.gate import gate
from dinodiet.config.settings import Settings, settings_of, write_settings
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


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("model", "os.system"),
        ("method.views", "subprocess.run"),
        ("schedule.optimizer", "builtins.exec"),
        ("eval.knn", "torch.load"),
        ("tracker", "dinodiet.io.files.remove"),
        ("dataset.source", "dinodiet.data.sources.download._os.system"),
        ("dataset.views", "dinodiet.io.scratch.shutil.rmtree"),
        ("method.views", "dinodiet.data.sources.torchvision.shutil.rmtree"),
        ("method.extra", "torch.optim.optimizer.os.system"),
    ],
)
def test_a_run_from_elsewhere_names_own_parts_only(run: Path, key: str, target: str) -> None:
    saved = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(saved, key, {"_target_": target}, merge=True, force_add=True)
    OmegaConf.save(saved, run / "config.yaml")
    with pytest.raises(UserError, match=rf"config.yaml: {key}._target_: '{target}' is none of dinodiet's own"):
        scored(run)
