import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.io import machine as environment


def test_auto_takes_what_there_is() -> None:
    assert environment.pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert environment.pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^device: "):
        environment.pick_device(name)


def test_peak_memory_grows_with_what_is_held() -> None:
    cpu = torch.device("cpu")
    before = environment.peak_memory_mb(cpu)
    held = torch.ones(400 * 2**18)  # 400 MiB
    assert environment.peak_memory_mb(cpu) >= min(before, 400)
    assert environment.peak_memory_mb(cpu) > 400
    del held


def test_facts_name_versions_and_commit() -> None:
    facts = environment.facts(torch.device("cpu"))
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["git_commit"] is None or len(facts["git_commit"].removesuffix("+changes")) == 40
