from dinodiet.config.schema import own_choices
from tests.running import CHOICES


def test_choices_of_a_run_are_those_of_its_groups() -> None:
    choices = {**CHOICES, "dataset@eval.dataset": None, "hydra/launcher": "local"}
    assert own_choices(choices) == CHOICES
    for nothing in (None, "None", ""):
        assert own_choices({**choices, "dataset@eval.dataset": nothing}) == CHOICES
    assert own_choices({**choices, "dataset@eval.dataset": "mnist"})["dataset@eval.dataset"] == "mnist"
