from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.data.preprocess import preprocess
from dinodiet.features import embed as module
from dinodiet.features.embed import EmbeddingCache, cache_key, embed, fingerprint
from dinodiet.types import Embeddings, Images, InputSpec, Runtime
from tests.backbones.toy import Toy
from tests.payload import Payload, has_run

RUNTIME = ("precision", "num_workers", "batch_size")
SPEC = InputSpec(size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class Encoder(Toy):
    """Convolution, BatchNorm and dropout; keeps what it was given and counts its calls."""

    def __init__(self) -> None:
        super().__init__(5, SPEC.size)
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.dropout = nn.Dropout(0.5)
        with torch.no_grad():
            self.conv.weight.normal_(generator=generator)
            self.norm.get_buffer("running_var").fill_(2.0)
        self.inputs: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.inputs.append(images)
        output: Tensor = self.dropout(self.norm(self.conv(images))).mean(dim=(2, 3))
        return output


class Mixed:
    """Images of different sizes, as a dataset from elsewhere would give them."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = [torch.randint(256, (3, 9 + i, 14 - i), generator=generator, dtype=torch.uint8) for i in range(5)]
        self.labels: Tensor | None = torch.arange(5)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, position: int) -> Tensor:
        return self.images[position]

    def fingerprint(self) -> str:
        return "mixed"


def some_images(count: int = 7, seed: int = 0) -> TensorImages:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 10, 10), generator=generator, dtype=torch.uint8)
    return TensorImages(images, torch.arange(count) % 3)


def run(encoder: nn.Module, images: Images, **changes: Any) -> Embeddings:
    runtime = Runtime(**{"batch_size": 3} | {name: changes.pop(name) for name in RUNTIME if name in changes})
    return embed(encoder, images, changes.pop("input", SPEC), runtime, num_labels=3, multilabel=False, **changes)


def directly(images: Images) -> Tensor:
    encoder = Encoder().eval()
    with torch.no_grad():
        return torch.cat([encoder(preprocess(images[i][None], SPEC)) for i in range(len(images))])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_image_once_in_sample_order_and_in_eval_mode(num_workers: int) -> None:
    images = some_images()
    seen: list[int] = []
    found = run(Encoder(), images, num_workers=num_workers, progress=seen.append)
    torch.testing.assert_close(found.features, directly(images), atol=1e-5, rtol=1e-5)
    assert images.labels is not None and torch.equal(found.labels, images.labels)
    assert (found.num_labels, found.multilabel, seen) == (3, False, [3, 3, 1])


def test_images_of_different_sizes() -> None:
    images = Mixed()
    torch.testing.assert_close(run(Encoder(), images).features, directly(images), atol=1e-5, rtol=1e-5)


def test_every_module_gets_its_mode_back_also_after_an_error() -> None:
    encoder = Encoder().train()
    encoder.norm.eval()  # a frozen part
    run(encoder, some_images())
    assert (encoder.training, encoder.norm.training, encoder.dropout.training) == (True, False, True)
    with pytest.raises(ValueError, match="broken"):
        run(encoder, some_images(), progress=lambda _: (_ for _ in ()).throw(ValueError("broken")))
    assert (encoder.training, encoder.norm.training, encoder.dropout.training) == (True, False, True)


def test_training_is_not_disturbed() -> None:
    encoder, state = Encoder().train(), torch.get_rng_state()
    statistics = encoder.norm.get_buffer("running_mean").clone()
    found = run(encoder, some_images())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(encoder.norm.get_buffer("running_mean"), statistics)
    assert not found.features.requires_grad


def test_a_tensor_that_the_encoder_keeps_can_be_trained_with() -> None:
    class Lazy(nn.Module):
        table: Tensor | None = None

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, images: Tensor) -> Tensor:
            if self.table is None:
                self.table = torch.linspace(0, 1, 3)
            return images.mean(dim=(2, 3)) * self.weight * self.table

    encoder = Lazy()
    run(encoder, some_images())
    encoder(torch.ones(1, 3, 8, 8)).sum().backward()
    assert encoder.weight.grad is not None


def test_precision_is_that_of_the_encoder_alone() -> None:
    exact, half = run(Encoder(), some_images()), run(Encoder(), some_images(), precision="bf16")
    assert half.features.dtype == torch.float32
    assert 1e-5 < float((exact.features - half.features).abs().max()) < 0.1
    encoder = Encoder()
    run(encoder, some_images(), precision="bf16")
    assert encoder.inputs[0].dtype == torch.float32


def test_input_follows_the_memory_format_of_the_convolutions() -> None:
    plain, channels_last = Encoder(), Encoder().to(memory_format=torch.channels_last)
    run(plain, some_images())
    run(channels_last, some_images())
    assert plain.inputs[0].is_contiguous() and not channels_last.inputs[0].is_contiguous()
    assert channels_last.inputs[0].is_contiguous(memory_format=torch.channels_last)


def test_embeddings_that_are_not_finite_are_an_error_and_never_cached(tmp_path: Path) -> None:
    encoder = Encoder()
    nn.init.constant_(encoder.conv.weight, math.inf)
    with pytest.raises(FloatingPointError, match="precision=fp32"):
        run(encoder, some_images(), cache=EmbeddingCache(tmp_path))
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_split_without_labels_has_embeddings_without() -> None:
    found = run(Encoder(), TensorImages(some_images().images))
    assert found.labels_or_none is None and torch.equal(found.features, run(Encoder(), some_images()).features)


def test_what_is_cached_is_not_computed_again(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "made" / "on_demand")
    first = run(Encoder(), some_images(), cache=cache)
    again = Encoder()
    found = run(again.train(), some_images(), cache=cache, batch_size=2)
    assert not again.inputs and torch.equal(found.features, first.features) and torch.equal(found.labels, first.labels)


def _buffer(encoder: Encoder) -> None:
    encoder.norm.get_buffer("running_mean").add_(1e-3)


def _weight(encoder: Encoder) -> None:
    encoder.conv.weight.data[0, 0, 0, 0] += 1e-6


def _signature(encoder: Encoder) -> None:
    encoder.description = replace(encoder.description, signature="mean_patch")


def _activation(encoder: Encoder) -> None:
    encoder.dropout = nn.ReLU()  # type: ignore[assignment]


@pytest.mark.parametrize("change", [_buffer, _weight, _signature, _activation])
def test_another_encoder_has_another_fingerprint(change: Any) -> None:
    encoder = Encoder()
    before = fingerprint(encoder)
    change(encoder)
    assert fingerprint(encoder) != before


def test_the_fingerprint_is_of_content_alone() -> None:
    encoder = Encoder()
    before = fingerprint(encoder)
    moved = Encoder().to(memory_format=torch.channels_last).eval()
    moved.conv.requires_grad_(False)
    assert fingerprint(moved) == before
    assert fingerprint(Encoder().to(torch.bfloat16)) != before


def test_the_key_holds_images_input_and_precision() -> None:
    encoder, images = Encoder(), some_images()
    keys = {
        cache_key(fingerprint(encoder), images, SPEC, "fp32"),
        cache_key(fingerprint(encoder), some_images(seed=1), SPEC, "fp32"),
        cache_key(fingerprint(encoder), images, replace(SPEC, interpolation="bilinear"), "fp32"),
        cache_key(fingerprint(encoder), images, replace(SPEC, mean=(0.5, 0.4, 0.31)), "fp32"),
        cache_key(fingerprint(encoder), images, SPEC, "bf16"),
    }
    assert len(keys) == 5
    assert cache_key(fingerprint(Encoder()), some_images(), replace(SPEC), "fp32") in keys


@pytest.mark.parametrize("damage", ["truncated", "empty", "other rows", "other name", "numbers", "nan", "pickle"])
def test_a_broken_file_is_replaced(tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path)
    first = run(Encoder(), some_images(), cache=cache)
    (path,) = tmp_path.glob("*.safetensors")
    if damage in ("truncated", "empty"):
        path.write_bytes(path.read_bytes()[: -5 if damage == "truncated" else 0])
    elif damage in ("numbers", "nan"):
        wrong = first.features.long() if damage == "numbers" else first.features * math.nan
        save_file({"features": wrong}, path)
    elif damage == "pickle":
        torch.save({"features": Payload(tmp_path)}, path)
    else:
        save_file({"features" if damage == "other rows" else "x": torch.ones(4, 5)}, path)
    encoder = Encoder()
    found = run(encoder, some_images(), cache=cache)
    assert encoder.inputs and torch.equal(found.features, first.features)
    assert torch.equal(load_file(path)["features"], first.features)
    assert not has_run(tmp_path)


def test_processes_at_once_compute_once(tmp_path: Path) -> None:
    computed = []

    def compute() -> Tensor:
        computed.append(1)
        time.sleep(0.1)
        return torch.full((4, 2), 3.0)

    with ThreadPoolExecutor(4) as pool:  # each holds a lock of its own, as processes do
        found = list(pool.map(lambda _: EmbeddingCache(tmp_path).get("key", 4, compute), range(4)))
    assert len(computed) == 1 and all(torch.equal(features, torch.full((4, 2), 3.0)) for features in found)


def test_a_write_that_fails_costs_the_cache_and_not_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full_disk(_: Any, path: Path) -> None:
        path.write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_file", full_disk)
    assert len(run(Encoder(), some_images(), cache=EmbeddingCache(tmp_path))) == 7
    assert {path.suffix for path in tmp_path.iterdir()} <= {".lock"}
    assert "no space left" in caplog.text


def test_a_folder_that_cannot_be_made_costs_the_cache_and_not_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert len(run(Encoder(), some_images(), cache=EmbeddingCache(tmp_path / "file" / "embeddings"))) == 7
    assert "not cached" in caplog.text
