from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from tests.composing import copied
from tests.running import composed


def test_what_is_read_twice_is_not_shared(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: {b: 1}")
    first, second = OmegaConf.load(path), OmegaConf.load(str(path))
    first.a.b = 2
    assert [OmegaConf.to_container(cfg) for cfg in (second, OmegaConf.load(path))] == [{"a": {"b": 1}}] * 2
    path.write_text("a: {b: 3}")
    assert OmegaConf.to_container(OmegaConf.load(path)) == {"a": {"b": 3}}


def test_a_mistake_in_a_file_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("a: [")
    with path.open() as file, pytest.raises(YAMLError, match=r"wrong\.yaml"):
        OmegaConf.load(file)
    with pytest.raises(YAMLError, match=r"wrong\.yaml"):
        OmegaConf.load(path)


def test_a_copy_keeps_types_and_flags_and_shares_nothing(tmp_path: Path) -> None:
    cfg = composed(tmp_path)
    other = copied(cfg)
    other.seed = 7
    assert cfg.seed != 7 and OmegaConf.get_type(other) is OmegaConf.get_type(cfg)
    for changed in (cfg, other):
        with pytest.raises(OmegaConfBaseException):
            changed.no_such_key = 1
        with pytest.raises(OmegaConfBaseException):
            changed.seed = "seven"
