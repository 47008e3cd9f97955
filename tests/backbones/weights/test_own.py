import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dinodiet.backbones.weights import released
from dinodiet.backbones.weights.files import read_file
from dinodiet.backbones.weights.own import fill, weights_file
from dinodiet.backbones.weights.released import HubFile
from dinodiet.errors import UserError

RELEASE = HubFile("owner/models", "net.pth", sha256="0d6f6b8f")


def network(device: str = "meta") -> nn.Module:
    torch.manual_seed(0)
    with torch.device(device):
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))


def state() -> dict[str, Tensor]:
    return network("cpu").state_dict()


def filled(path: Path, **options: Any) -> dict[str, Tensor]:
    model = network()
    fill(model, path, name="net", **options)
    return model.state_dict()


def same(found: dict[str, Tensor]) -> bool:
    expected = state()
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def sharded(folder: Path, shards: dict[str, list[str]]) -> Path:
    for name, keys in shards.items():
        save_file({key: state()[key] for key in keys}, folder / name)
    index = {"metadata": {}, "weight_map": {key: name for name, keys in shards.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# --- files ------------------------------------------------------------------------------------------------------------


def test_checkpoints_of_torch_and_safetensors_fill_a_model(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "a.pth")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state().items()}}, tmp_path / "b.pth.tar")
    torch.save({f"model.{key}": value for key, value in state().items()}, tmp_path / "c.bin")
    torch.save(state(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)  # cannot be mapped
    save_file(state(), tmp_path / "d.safetensors")
    for path in tmp_path.iterdir():
        assert same(filled(path)), path


def test_shards_fill_a_model_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = list(state())
    folder = sharded(tmp_path, {"1.safetensors": keys[:3], "2.safetensors": keys[3:]})
    read: list[tuple[str, int]] = []
    model, load = network(), read_file

    def spy(path: Path) -> dict[str, Tensor]:
        read.append((path.name, sum(not value.is_meta for value in model.parameters())))
        return load(path)

    monkeypatch.setattr("dinodiet.backbones.weights.own.read_file", spy)
    fill(model, weights_file(str(folder), None, "net"), name="net")
    assert read == [("1.safetensors", 0), ("2.safetensors", 3)]
    assert same(model.state_dict())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_parameters_are_the_mapped_file_itself(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"net.{suffix}"
    torch.save(state(), path) if suffix == "pth" else save_file(state(), path)
    read: list[dict[str, Tensor]] = []
    load = read_file

    def spy(path: Path) -> dict[str, Tensor]:
        read.append(load(path))
        return dict(read[-1])

    monkeypatch.setattr("dinodiet.backbones.weights.own.read_file", spy)
    model = network()
    fill(model, path, name="net")
    for key, value in model.state_dict().items():
        assert value.data_ptr() == read[0][key].data_ptr(), key
    maps = Path("/proc/self/maps")
    assert not maps.exists() or path.name in maps.read_text()  # and not read into memory
    with torch.no_grad():
        next(model.parameters()).zero_()  # private pages: training does not write into the file
    assert same(filled(path))
    assert model.get_parameter("0.weight").requires_grad


def test_floating_point_tensors_are_converted_and_counts_are_not(tmp_path: Path) -> None:
    torch.save(
        {key: value.half() if value.is_floating_point() else value for key, value in state().items()},
        tmp_path / "a.pth",
    )
    for dtype in (torch.bfloat16, torch.float32):
        found = filled(tmp_path / "a.pth", dtype=dtype)
        assert {value.dtype for key, value in found.items() if "num" not in key} == {dtype}
        assert found["1.num_batches_tracked"].dtype == torch.int64


def test_keys_are_renamed_or_ignored_by_name(tmp_path: Path) -> None:
    torch.save({f"net.{key}": value for key, value in state().items()} | {"net.top": torch.ones(1)}, tmp_path / "a.pth")
    found = filled(tmp_path / "a.pth", ignored=["top"], rename=lambda key: key.removeprefix("net."))
    assert same(found)
    with pytest.raises(UserError, match=r"1 unexpected \(top\)$"):
        filled(tmp_path / "a.pth", ignored=["to"], rename=lambda key: key.removeprefix("net."))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, r"1 missing \(0.bias\)$"),
        ({"3.bias": torch.ones(2)}, r"1 unexpected \(3.bias\)$"),
        ({"0.bias": torch.ones(5)}, r"1 of another shape \(0.bias \(5,\) instead of \(4,\)\)$"),
    ],
)
def test_a_file_that_does_not_fit_names_the_keys(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    changed = {key: value for key, value in (state() | change).items() if value is not None}
    torch.save(changed, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"^weights: {tmp_path}/a.pth does not fit net: {message}"):
        filled(tmp_path / "a.pth")


class Payload:
    """What a malicious file would run on loading."""


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("not weights\nat all")
    torch.save({"model": Payload()}, tmp_path / "b.pth")
    (tmp_path / "c.safetensors").write_text("not weights")
    torch.save([1, 2], tmp_path / "d.pth")
    (tmp_path / "e.index.json").write_text("[]")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(
            UserError, match=rf"^weights: {path} (is text|is JSON|cannot be read|holds a list|holds no tensors)"
        ) as caught:
            filled(path)
        assert "\n" not in str(caught.value)


def test_a_missing_file_folder_or_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^weights: no file {tmp_path}/a.pth"):
        weights_file(str(tmp_path / "a.pth"), RELEASE, "net")
    with pytest.raises(UserError, match=f"^weights: {tmp_path} is a folder without model.safetensors"):
        weights_file(str(tmp_path), RELEASE, "net")
    sharded(tmp_path, {"1.safetensors": list(state())})
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(UserError, match=r"names 1.safetensors, but .* no such file"):
        filled(weights_file(str(tmp_path), RELEASE, "net"))


# --- hub --------------------------------------------------------------------------------------------------------------


def offline(monkeypatch: pytest.MonkeyPatch, fetched: Path | None = None) -> None:
    monkeypatch.setattr(released, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", fetched is None)
    monkeypatch.setattr("dinodiet.io.answers.getproxies", lambda: {"https": "proxy"})
    monkeypatch.setattr(released, "_file_from_hub", lambda *_: fetched or pytest.fail("asked"))


def test_without_a_network_the_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(UserError) as caught:
        weights_file("hub", RELEASE, "net")
    message = str(caught.value)
    assert message.startswith("weights: hub, but net.pth of owner/models")
    assert "HF_HOME" in message and "HF_HUB_OFFLINE is set" in message
    assert "mode=fetch gets it ahead of time" in message
    assert "https://huggingface.co/owner/models/resolve/main/net.pth" in message
    assert message.endswith("weights=/path/to/file")


def test_a_cached_file_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offline(monkeypatch)
    monkeypatch.setattr(released, "try_to_load_from_cache", lambda *_, **__: str(tmp_path / "net.pth"))
    assert RELEASE.get() == tmp_path / "net.pth"


def test_a_fetched_file_is_held_against_its_published_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blob, path = tmp_path / "blob", tmp_path / "net.pth"
    blob.write_bytes(b"weights")
    path.symlink_to(blob)
    offline(monkeypatch, path)
    assert HubFile("owner/models", "net.pth", sha256="9a129038").get() == path  # of b"weights"
    assert HubFile("owner/models", "net.pth").get() == path
    with pytest.raises(UserError, match=r"net.pth .* SHA-256 9a129038\w+, published is 0d6f6b8f"):
        RELEASE.get()
    assert not path.is_symlink() and not blob.exists()


def test_a_model_without_release_says_so() -> None:
    with pytest.raises(UserError, match=r"^weights: hub, but net has no released"):
        weights_file("hub", None, "net")
