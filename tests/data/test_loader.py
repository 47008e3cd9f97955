import itertools

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from dinodiet.data.images import TensorImages
from dinodiet.data.loader import TrainLoader, on_device
from dinodiet.types import Batch


def images(number: int = 10) -> TensorImages:
    pixels = torch.arange(number, dtype=torch.uint8).view(number, 1, 1, 1).expand(number, 3, 2, 2).contiguous()
    return TensorImages(pixels, torch.arange(number) % 3)


def take(loader: TrainLoader, number: int, step: int = 0) -> list[Batch]:
    return list(itertools.islice(loader.batches(step), number))


def test_an_epoch_sees_each_image_at_most_once_and_drops_the_rest() -> None:
    loader = TrainLoader(images(10), batch_size=3, seed=0)
    assert loader.steps_per_epoch == 3
    first, second = take(loader, 3), take(loader, 6)[3:]
    for epoch in (first, second):
        seen = torch.cat([batch.index for batch in epoch])
        assert len(seen.unique()) == len(seen) == 9
    assert not torch.equal(first[0].index, second[0].index)


def test_images_labels_and_index_belong_together() -> None:
    for batch in take(TrainLoader(images(), 4, seed=1), 4):
        assert isinstance(batch.images, torch.Tensor)
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.index)
        assert batch.label is not None
        assert torch.equal(batch.label, batch.index % 3)


@pytest.mark.parametrize("step", [1, 3, 7])
def test_a_resumed_loader_goes_on_where_the_first_one_was(step: int) -> None:
    loader = TrainLoader(images(), 3, seed=5)
    expected = take(loader, 9)[step:]
    for ours, theirs in zip(take(loader, 9 - step, step), expected, strict=True):
        assert torch.equal(ours.index, theirs.index)


def test_workers_do_not_change_the_batches() -> None:
    alone, helped = (take(TrainLoader(images(), 3, seed=2, num_workers=number), 5) for number in (0, 2))
    for ours, theirs in zip(alone, helped, strict=True):
        assert torch.equal(ours.index, theirs.index)
        assert isinstance(ours.images, torch.Tensor)
        assert isinstance(theirs.images, torch.Tensor)
        assert torch.equal(ours.images, theirs.images)


def test_the_seed_decides_the_order() -> None:
    orders = [torch.cat([b.index for b in take(TrainLoader(images(), 3, seed=seed), 3)]) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_a_set_smaller_than_the_batch_is_one_batch() -> None:
    loader = TrainLoader(images(4), batch_size=32, seed=0)
    assert (loader.batch_size, loader.steps_per_epoch) == (4, 1)
    assert len(take(loader, 1)[0]) == 4


def test_a_loader_pins_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)  # there may be no GPU
    batch = Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([3, 4]), torch.tensor([0, 1]))
    pinned = pin_memory(batch)  # torch passes over objects that it does not know
    assert [tensor.flatten()[0].item() for tensor in pinned.tensors()] == [1, 1, 4]
    assert pin_memory(Batch([torch.zeros(3, 2, 2)], None, torch.tensor([0]))).images[0].sum() == 12


def test_batches_arrive_on_the_device_in_their_order() -> None:
    given = [Batch(torch.full((2, 3, 4, 4), step), None, torch.tensor([step, step])) for step in range(3)]
    arrived = on_device(iter(given), torch.device("meta"))
    assert [(batch.index.device.type, len(batch)) for batch in arrived] == 3 * [("meta", 2)]
    steps = [int(batch.index[0]) for batch in on_device(iter(given), torch.device("cpu"))]
    assert steps == [0, 1, 2]
