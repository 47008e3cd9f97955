from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from dinodiet.config.schema import RunConfig
from dinodiet.config.tuned import check_tuned, own_schedule
from dinodiet.errors import UserError
from tests.places import CONF


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    ConfigStore.instance().store("schema", RunConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def choices(**changed: str) -> dict[str, str]:
    return {"dataset": "digits", "method": "diet", "tuned": "digits_diet", "schedule": "diet", **changed}


@pytest.mark.parametrize(
    ("method", "schedule"),
    [
        ("diet", "diet"),
        ("diet_dual", "diet"),
        ("diet_scratch", "diet_scratch"),
        ("dino", "dino"),
        ("dino_resnet", "dino_resnet"),
        ("lowdino", "lowdino"),
    ],
)
def test_methods_bring_their_schedules(method: str, schedule: str, loader: ConfigLoader) -> None:
    assert own_schedule(method, loader) == schedule


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tuned": "bogus"}, "^tuned: no choice 'bogus'; choose from"),
        ({"schedule": "dino"}, "^schedule: 'dino' would be mixed"),
    ],
)
def test_tuned_settings_that_do_not_fit_are_refused(changed: dict[str, str], words: str, loader: ConfigLoader) -> None:
    with pytest.raises(UserError, match=words):
        check_tuned(choices(**changed), loader)


@pytest.mark.parametrize(
    "changed", [{}, {"tuned": "none", "schedule": "dino"}, {"dataset": "mnist", "tuned": "mnist_diet", "schedule": "x"}]
)
def test_tuned_settings_may_be_absent(changed: dict[str, str], loader: ConfigLoader) -> None:
    check_tuned(choices(**changed), loader)
