"""Embeddings part by part: the numbers of an evaluation, and no more in memory than a part."""

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.errors import UserError
from dinodiet.features.embed import embed
from dinodiet.features.parts import Source, parts_of, rows_of
from dinodiet.types import InputSpec, Runtime
from tests.small import Encoder

INPUT = InputSpec(16, (0.5,) * 3, (0.5,) * 3)


class Wide(nn.Module):
    """An encoder whose embeddings take much room: 64 Ki numbers, 256 KiB an image."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2**16)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(images.mean((2, 3)))
        return out


def source(count: int, encoder: nn.Module, batch: int = 8) -> Source:
    pixels = torch.randint(256, (count, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Source(encoder, INPUT, Runtime(batch_size=batch), {"test": TensorImages(pixels, torch.arange(count))}, None)


def test_all_rows_are_those_of_an_evaluation_whichever_parts_are_missing() -> None:
    torch.manual_seed(0)
    found = source(50, Encoder())
    whole = embed(found.encoder, found.splits["test"], INPUT, found.runtime, num_labels=50, multilabel=False)
    parts = parts_of(found, "test", 10, "encoder")
    assert [(part.start, part.stop) for part in parts] == [(0, 16), (16, 32), (32, 48), (48, 50)]  # whole batches
    for chosen in (parts, parts[1:2], parts[::3]):
        made = dict(rows_of(found, "test", chosen))
        assert list(made) == chosen
        for part, rows in made.items():
            assert np.array_equal(rows.embeddings, whole.features[part.start : part.stop].numpy())
            assert rows.index.tolist() == list(range(part.start, part.stop))
            assert rows.labels is not None and rows.labels.tolist() == rows.index.tolist()
    assert found.encoder.training


def test_keys_tell_of_encoder_rows_labels_and_pixels() -> None:
    found = source(32, Encoder())
    first = [part.key for part in parts_of(found, "test", 16, "encoder")]
    assert len(set(first)) == 2
    assert first != [part.key for part in parts_of(found, "test", 16, "other")]
    assert not {*first} & {part.key for part in parts_of(found, "test", 8, "encoder")}
    images = found.splits["test"]
    assert images.labels is not None
    images.labels[20] = 3
    relabelled = [part.key for part in parts_of(found, "test", 16, "encoder")]
    assert relabelled[0] == first[0] and relabelled[1] != first[1]


def test_rows_of_one_part_are_held_at_a_time() -> None:
    found = source(64, Encoder())
    alive: list[weakref.ref[object]] = []
    for _, rows in rows_of(found, "test", parts_of(found, "test", 8, "encoder")):
        alive.append(weakref.ref(rows))
        assert sum(ref() is not None for ref in alive) <= 2  # the one that is replaced
        del rows


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_with_the_number_of_images() -> None:
    found = source(1024, Wide())  # 256 MiB of embeddings
    for _ in rows_of(found, "test", parts_of(found, "test", 8, "encoder")[:4]):
        pass
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    for _ in rows_of(found, "test", parts_of(found, "test", 32, "encoder")):  # 8 MiB a part
        pass
    assert peak() - before < 64 * 2**20


def peak() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 2**10


def test_embeddings_that_are_not_finite_are_one_line() -> None:
    encoder = Encoder()
    nn.init.constant_(encoder.linear.bias, torch.inf)
    found = source(20, encoder)
    with pytest.raises(UserError, match=r"precision: fp32; the embeddings of 16 of 16 images .*test\[0\]"):
        list(rows_of(found, "test", parts_of(found, "test", 16, "encoder")))
