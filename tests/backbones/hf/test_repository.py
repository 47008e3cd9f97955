"""Models of the hub come file by file, at one commit, once; what is not there is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dinodiet.backbones.hf import hf_backbone
from dinodiet.backbones.hf.factory import _assets
from dinodiet.backbones.hf.repository import CONFIG, Repository, read_text
from dinodiet.errors import UserError
from tests.web import COMMIT, Web, serving

from .test_factory import shards
from .tiny import FOLDERS, SPEC, copied, tiny

NAME = "owner/models"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serving(tmp_path, monkeypatch) as found:
        yield found


def publish(web: Web, folder: Path, *without: str) -> None:
    for file in folder.iterdir():
        if file.name not in ("io.npz", *without):
            web.publish(NAME, file.name, file.read_bytes())


def test_a_model_is_fetched_once_at_one_commit(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = copied("vit", tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    publish(web, folder)
    found = hf_backbone(SPEC, name=NAME)
    assert found.description.details["repository"] == f"{NAME} at {COMMIT}"
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), tiny("vit").parameters(), strict=True))
    web.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hf_backbone(SPEC, name=NAME).description.licence == "cc-by-4.0"
    assert not web.asked


def test_shards_are_fetched_by_the_index_and_found(web: Web, tmp_path: Path) -> None:
    folder = copied("vit", tmp_path / "model")
    shards(folder)
    publish(web, folder)
    assets = _assets(name=NAME, revision=None, weights="hub")
    for asset in assets:
        assert asset.find() is None and asset.get is not None
        asset.get()
        assert asset.find() is not None
    found = hf_backbone(SPEC, name=NAME)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), tiny("vit").parameters(), strict=True))


@pytest.mark.parametrize("missing", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_repository_that_lacks_a_file_says_which(web: Web, missing: str) -> None:
    publish(web, FOLDERS / "vit", missing)
    last = {"preprocessor_config.json": "processor_config.json", "model.safetensors": "pytorch_model.bin.index.json"}
    with pytest.raises(UserError, match=rf"^name: {last.get(missing, missing)} of {NAME} .* could it be fetched"):
        hf_backbone(SPEC, name=NAME)


def test_what_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, problem in (("[1]", "holds a list"), ("{" * 3, "cannot be read"), (" " * 2**20 + " ", "larger than")):
        path.write_text(text)
        with pytest.raises(UserError, match=problem):
            read_text(path)
    assert Repository(str(tmp_path)).get(CONFIG) == path
