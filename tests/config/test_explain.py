"""Errors of Hydra and OmegaConf become one line with the key, what was found and the choices."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dinodiet.config.explain import explain, told
from dinodiet.config.schema import ScheduleConfig
from dinodiet.errors import UserError
from dinodiet.sweep.main import register


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


WORDS = {  # a word that Hydra cannot compose, and how its line begins
    "model=mea": "model: no choice 'mea'; choose from: aim, ",
    "model=": "model: no choice ''; choose from: aim, ",
    "model=3": "model: no choice 3; choose from: aim, ",
    "model=null": "model: null; one choice is needed; choose from: aim, ",
    "model=[vit,mae]": "model: ['vit', 'mae']; one choice is needed, or with -m model=a,b; choose from: ",
    "eval=[knn,nope]": "eval: no choice 'nope'; choose from: attention, ",
    "eval=null": "eval: null; [] is for none; choose from: attention, ",
    "eval=-0.5": "eval: no choice -0.5; choose from: attention, ",
    "sweeps=nope": "sweeps: no choice 'nope'; choose from: adapters, ",
    "hydra/launcher=nope": "hydra/launcher: no choice 'nope'; choose from: local, parallel, slurm",
    "dataset@eval.dataset=nope": "dataset@eval.dataset: no choice 'nope'; choose from: ",
    "dataset@eval.reference.dataset=mnist": "dataset@eval.reference.dataset: no evaluator takes it; add one: eval=[",
    "model@method.teacher.model=mae": "method.teacher.model: the method takes none; choose one",
    "model@method.teacher.model=mea": "method.teacher.model: no choice 'mea'; choose from: aim, ",
    "model@x=mae": "model@x: no such group",
    "foo@bar=1": "foo@bar: no such group 'foo'; choose from: model, ",
    "++model=mae": "model: leave out the ++; choose from: ",
    "method.typo=1": "method.typo: no such key 'typo' here; choose from: head, loss",
    "nowhere.typo=1": "nowhere.typo: no such key 'nowhere' here; choose from: cache_dir, ",
    "~method.typo": "method.typo: no such key 'typo' here; choose from: head, loss",
    "seed.x=1": "seed.x: no such key; seed is 0",
    "seed=ten": "seed: 'ten'; must be a whole number",
    "seed={a:1}": "seed: {'a': 1}; must be a whole number",
    "schedule.epochs=[1]": "schedule.epochs: [1]; must be a finite number",
    "schedule.lr=[1e-3]": "schedule.lr: [0.001]; must be a finite number from 0 to 100 or a node",
    "+seed=1": "seed: is there already; leave out the +: seed=1",
    "~schedule.optimizer": "schedule.optimizer: cannot be left out",
    "x=[": "x=[: cannot be read as key=value",
    "seed='": "seed=': cannot be read as key=value",
    "model=mae,vit": "model: mae,vit are several; add -m to run each",
    "schedule.epochs=range(3)": "schedule.epochs: range(3) are several; add -m to run each",
    "+sweeps=smoke": "sweeps: leave out the +",
    "hydra/sweeper=basic": "hydra/sweeper: no choice 'basic'; choose from: grid",
    "hydra/job_logging=nope": "hydra/job_logging: no choice 'nope'; choose from: default, ",
    "hydra.mode=nope": "hydra.mode: 'nope'; must be one of: RUN, MULTIRUN",
    "x=" + "[" * 500: f"x={'[' * 78}...: cannot be read as key=value",
    "=3": "=3: cannot be read as key=value",
    "seed": "seed: cannot be read as key=value",
}


@pytest.mark.parametrize("word", WORDS)
def test_the_word_to_blame_is_told_with_its_choices(word: str) -> None:
    line = explain(ValueError("in Hydra's own words"), ["log_every=3", word, "name=later"])
    assert line.startswith(WORDS[word])
    assert "\n" not in line


def test_several_values_are_what_a_grid_is_made_of() -> None:
    assert "several" not in explain(ValueError("in Hydra's own words"), ["-m", "model=mae,vit"])


def test_the_neighbours_are_those_of_what_the_other_words_choose() -> None:
    words = ["method=dino", "method.typo=1"]
    assert "choose from: head, koleo" in explain(ValueError("in Hydra's own words"), words)


def test_a_mistake_of_ours_is_told_as_it_is() -> None:
    assert explain(UserError("seed: -1;\n must be at least 0"), ["x=["]) == r"seed: -1;\n must be at least 0"


def test_a_value_of_the_wrong_type_is_told_by_its_key() -> None:
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.structured(ScheduleConfig).batch_size = "many"
    assert explain(caught.value, []).startswith("batch_size: Value 'many'")


def test_a_file_that_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1\nb: [\n")
    with pytest.raises(YAMLError) as caught:
        OmegaConf.load(tmp_path / "mine.yaml")
    assert told(caught.value).startswith(f"{tmp_path / 'mine.yaml'}, line 3: ")


@pytest.mark.parametrize("error", [AssertionError(), KeyError(), ValueError("\n")])
def test_no_message_is_empty(error: Exception) -> None:
    assert told(error).strip()
