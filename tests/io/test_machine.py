from types import SimpleNamespace

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.io import machine as environment


@pytest.mark.parametrize(("there", "kind"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(there: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert environment.pick_device("auto").type == kind


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^device: "):
        environment.pick_device(name)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_peak_memory_is_in_mib_whatever_the_system_counts_in(
    platform: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(ru_maxrss=3 * 2**20 // unit)
    monkeypatch.setattr("dinodiet.io.machine.resource.getrusage", lambda _: usage)
    monkeypatch.setattr("dinodiet.io.machine.sys.platform", platform)
    assert environment.peak_memory_mb(torch.device("cpu")) == 3.0


def test_facts_name_versions() -> None:
    facts = environment.facts(torch.device("cpu"))
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
