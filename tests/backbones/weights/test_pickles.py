"""What checkpoints hold besides tensors is neither needed nor run."""

import argparse
import collections
import dataclasses
import datetime
import enum
import functools
import pathlib
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from dinodiet.backbones.weights import pickles
from dinodiet.backbones.weights.files import read_file
from dinodiet.backbones.weights.network import tensors_in
from dinodiet.errors import UserError
from tests.backbones.weights.test_timm import Payload


@dataclasses.dataclass
class Options:
    """What training code may keep."""

    lr: float = 0.1
    inner: Any = None


class Stage(enum.Enum):
    """Another."""

    FIRST = 1


def scheduler() -> Any:
    return torch.optim.lr_scheduler.StepLR(torch.optim.SGD([nn.Parameter(torch.ones(2))], 0.1), 1)


BESIDE: dict[str, Callable[[], Any]] = {
    "namespace": lambda: argparse.Namespace(arch="vit", output=Path("out")),
    "simple": lambda: SimpleNamespace(a=1),
    "scalar": lambda: np.float64(3.5),
    "strings": lambda: np.array(["a", "b"]),
    "random": lambda: (np.random.get_state(), np.random.default_rng(0)),
    "dataclass": lambda: Options(inner=Options()),
    "enum": lambda: Stage.FIRST,
    "omegaconf": lambda: OmegaConf.create({"a": {"b": [1, 2]}}),
    "default": lambda: collections.defaultdict(int, a=1),
    "counter": lambda: collections.Counter("abc"),
    "time": datetime.datetime.now,
    "path": lambda: pathlib.PurePosixPath("/a"),
    "partial": lambda: functools.partial(Options, lr=1.0),
    "function": lambda: torch.nn.functional.relu,
    "scheduler": scheduler,
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", BESIDE)
def test_tensors_are_read_whatever_lies_beside(name: str, zipped: bool, tmp_path: Path) -> None:
    content = {"beside": BESIDE[name](), "model": {"w": torch.arange(3.0)}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert tensors_in(read_file(tmp_path / "a.pth"))["model.w"].tolist() == [0, 1, 2]


def test_arrays_and_whole_modules_count_as_weights(tmp_path: Path) -> None:
    torch.save({"a": np.arange(3, dtype=np.float32), "net": nn.Sequential(nn.Linear(2, 3))}, tmp_path / "a.pth")
    found = tensors_in(read_file(tmp_path / "a.pth"))
    assert found["a"].tolist() == [0, 1, 2]
    assert found["net.0.weight"].shape == (3, 2)


def test_a_plain_pickle_of_arrays_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {"w": np.ones(2)}}))
    assert tensors_in(read_file(tmp_path / "a.pkl"))["model.w"].tolist() == [1, 1]


def trace(path: str) -> None:
    Path(path).touch()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [trace, exec, getattr, Path.touch, torch.load, np.load, functools.reduce])
def test_nothing_is_called(function: Callable[..., Any], protocol: int, tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    arguments = {exec: (f"open({mark!r}, 'w')",), Path.touch: (Path(mark),)}.get(function, (mark,))
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"a": Payload(function, *arguments)}, protocol=protocol))
    try:
        read_file(tmp_path / "a.pth")
    except UserError as error:
        assert "\n" not in str(error)
    assert not Path(mark).exists()


def test_a_file_cannot_change_what_reads_it(tmp_path: Path) -> None:
    """Pickle can set attributes of what it names: of a function its defaults."""
    before = torch._utils._rebuild_tensor_v2.__dict__.copy()
    code = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(U\x04evilK\x01ub."
    (tmp_path / "a.pkl").write_bytes(code)
    pickles.load(tmp_path / "a.pkl")
    assert torch._utils._rebuild_tensor_v2.__dict__ == before
