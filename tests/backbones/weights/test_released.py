"""Files of released weights: found, fetched once, from the hub or the publisher, and told where they cannot be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dinodiet.backbones.weights import released
from dinodiet.backbones.weights.released import HubFile, UrlFile
from dinodiet.errors import UserError
from tests.backbones import layouts
from tests.backbones.small import build_small, images_of, own_state, randomised
from tests.web import COMMIT, Web, serving

CONNECT = "dinodiet.io.answers.socket.create_connection"
CONTENT = bytes(range(256)) * 40
RELEASE = HubFile("owner/models", "net.pth")
NET = "/owner/models/resolve/main/net.pth"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serving(tmp_path, monkeypatch) as found:
        yield found


def test_a_file_is_fetched_once_and_found_without_the_network(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = web.publish("owner/models", "net.pth", CONTENT)
    assert RELEASE.find() is None
    path = RELEASE.get()
    assert path.read_bytes() == CONTENT
    assert path.parts[-3:] == ("snapshots", COMMIT, "net.pth")
    assert web.gets() == [(NET, ""), (kept, "")]
    web.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert RELEASE.get() == RELEASE.find() == path
    assert not web.asked


def test_a_broken_connection_is_taken_up_where_it_broke(web: Web) -> None:
    kept = web.publish("owner/models", "net.pth", CONTENT)
    web.cuts = [3000]
    assert RELEASE.get().read_bytes() == CONTENT
    assert web.gets() == [(NET, ""), (kept, ""), (NET, "bytes=3000-"), (kept, "bytes=3000-")]


def test_content_with_another_digest_than_the_hub_says_is_refused(web: Web) -> None:
    web.publish("owner/models", "net.pth", CONTENT, sha256="0" * 64)
    with pytest.raises(UserError, match=r"net.pth .* SHA-256 \w+, published is 0{16}"):
        RELEASE.get()
    assert RELEASE.find() is None
    assert not [path for path in RELEASE.place.rglob("*") if path.is_file() and path.stat().st_size >= len(CONTENT)]


def test_content_with_another_digest_than_the_paper_says_is_refused(web: Web) -> None:
    web.publish("owner/models", "net.pth", CONTENT)
    with pytest.raises(UserError, match=r"SHA-256 \w+, published is 0d6f6b8f.* removed"):
        HubFile("owner/models", "net.pth", sha256="0d6f6b8f").get()
    assert RELEASE.find() is None


def test_the_second_name_serves_where_the_first_is_not_there(web: Web) -> None:
    web.publish("owner/models", "pytorch_model.bin", CONTENT)
    release = HubFile("owner/models", "model.safetensors", otherwise="pytorch_model.bin")
    path = release.get()
    assert path.name == "pytorch_model.bin"
    assert release.find() == path


def test_a_token_goes_to_the_hub_and_not_to_where_it_sends_us(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    web.publish("owner/models", "net.pth", CONTENT)
    RELEASE.get()
    sent = {(method, token) for method, _, _, token in web.asked}
    assert sent == {("HEAD", "Bearer hf_secret"), ("GET", "Bearer hf_secret"), ("GET", "")}
    assert {token for _, path, _, token in web.asked if path.startswith("/kept/")} == {""}


def test_files_on_no_hub_lie_where_torch_hub_looks(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["/models/net.pth.tar"] = CONTENT
    release = UrlFile(f"{web.address}/models/net.pth.tar")
    web.cuts = [100, 0]
    with pytest.raises(UserError, match=rf"{release.url} .*cache {tmp_path}/torch/hub/checkpoints"):
        release.get()
    assert release.get() == release.find() == tmp_path / "torch/hub/checkpoints/net.pth.tar"
    assert web.gets()[-1] == ("/models/net.pth.tar", "bytes=100-")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert release.get().read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set.*mode=fetch"):
        UrlFile(f"{web.address}/models/other.pth").get()


def test_without_a_network_the_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable\nand more that fills the screen")

    monkeypatch.setattr(released, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("dinodiet.io.answers.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(CONNECT, refuse)
    monkeypatch.setattr(released, "get_hf_file_metadata", lambda *_, **__: pytest.fail("a minute of retries"))
    with pytest.raises(UserError) as caught:
        build_small("dinov2", weights="hub")
    message = str(caught.value)
    assert message.startswith("weights: hub, but model.safetensors of timm/vit_small_patch14_reg4_dinov2.lvd142m")
    assert "HF_HOME" in message
    assert "Network is unreachable" in message
    assert message.endswith("weights=/path/to/file")
    assert "\n" not in message


def test_offline_mode_asks_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(CONNECT, lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        build_small("dinov2", weights="hub")


def test_cached_hub_weights_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = randomised("resnet18")
    save_file(own_state(original), tmp_path / "model.safetensors")
    asked: list[str] = []

    def cached(hub_id: str, file: str, **_: Any) -> str | None:
        asked.append(hub_id)
        return str(tmp_path / file) if (tmp_path / file).exists() else None

    monkeypatch.setattr(released, "try_to_load_from_cache", cached)
    monkeypatch.setattr(CONNECT, lambda *_, **__: pytest.fail("asked the network"))
    loaded = build_small("resnet18", weights="hub").eval()
    assert asked == ["timm/resnet18.tv_in1k"]
    torch.testing.assert_close(loaded(images_of(loaded)), original(images_of(original)))


def test_weights_that_the_publisher_keeps_are_fetched_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = randomised("ijepa")
    asked: list[str] = []

    def fetch(url: str, target: Path) -> None:
        asked.append(url)
        target.parent.mkdir(parents=True)
        torch.save(layouts.ijepa(own_state(original)), target)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(released, "transfer", fetch)
    loaded = build_small("ijepa", weights="hub").eval()
    assert asked == ["https://dl.fbaipublicfiles.com/ijepa/IN1K-vit.h.14-300e.pth.tar"]
    torch.testing.assert_close(loaded(images_of(loaded)), original(images_of(original)))


@pytest.mark.parametrize("size", ["035", "075"])
def test_models_without_released_weights_say_so(size: str) -> None:
    with pytest.raises(UserError, match=rf"^weights: hub, but mobilenetv2_{size} has no released"):
        build_small("mobilenetv2_035", size=size, weights="hub")
