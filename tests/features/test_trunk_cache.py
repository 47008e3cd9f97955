"""The trunk cache: its files, who shares them, how they are drawn from, and that training on them is the same."""

import functools
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from dinodiet.data.images import TensorImages
from dinodiet.data.loader import TrainLoader, without_pixels
from dinodiet.data.views.views import SingleView
from dinodiet.errors import UserError
from dinodiet.features import trunk_cache
from dinodiet.io.units import byte_size
from dinodiet.methods.diet import DIET
from dinodiet.types import Batch, Clock, DataSpec, Precision, Runtime
from tests.backbones.small import build_small
from tests.methods import assemble

CHUNK = 8
N = 2 * CHUNK
SPEC = DataSpec("toy", num_images=N, num_labels=3)
CLOCK = Clock(8, 40, 4)  # ten epochs of four steps, in the third


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk_cache, "CHUNK", CHUNK)


def images() -> TensorImages:
    pixels = torch.randint(256, (N, 3, 20, 20), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return TensorImages(pixels, torch.arange(N) % 3)


def diet(model: str = "vit_tiny", seed: int = 0, strength: int = 1, **settings: Any) -> DIET:
    torch.manual_seed(0)
    backbone = build_small(model)
    if model == "mobilenetv2_035":
        backbone.to(memory_format=torch.channels_last)
    torch.manual_seed(seed)  # of the head
    views = functools.partial(SingleView, strength=strength)
    defaults = {"trainable": "last_1_blocks", "trunk__views": 3, "trunk__dtype": "fp32"}
    return assemble.diet(backbone, SPEC, views=views, **{**defaults, **settings})


def prepare(method: DIET, folder: Path, clock: Clock = CLOCK, precision: Precision = "fp32") -> list[str]:
    """Fill the cache and return the names of all files then there."""
    method.prepare(images(), clock, Runtime(precision=precision, cache=folder))
    return sorted(path.name for path in (folder / "trunks").glob("*.bin"))


def batch() -> Batch:
    index = torch.tensor([N - 1, 0, CHUNK, 5])
    return Batch(images().fetch(index), index % 3, index)


def drawn(method: DIET, clock: Clock = CLOCK) -> Tensor:
    assert method.trunk is not None
    return method.trunk.draw(torch.arange(N), clock)[0]


@pytest.mark.parametrize(
    ("model", "trainable", "step"),
    [
        ("vit_tiny", "last_1_blocks", 8),
        ("vit_tiny", "last_1_blocks", 0),  # the backbone waits
        ("vit_tiny", "head_only", 8),
        ("mobilenetv2_035", "last_1_blocks", 8),
    ],
)
def test_training_on_the_cache_is_training_on_the_views(model: str, trainable: str, step: int, tmp_path: Path) -> None:
    found = {}
    for cached in (0, 3):  # with strength 0 all views of an image are the same
        method = diet(model, strength=0, trainable=trainable, trunk__views=cached, probe__weight=0.3)
        method.train()
        prepare(method, tmp_path)
        logs = method(batch(), CLOCK.at(step))
        torch.autograd.backward(logs["loss"])
        grads = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
        found[cached] = {**logs, **grads, **dict(method.named_buffers())}
    assert found[0].keys() == found[3].keys()
    assert any(name.startswith("backbone.") and "weight" in name for name in found[3]) == (
        (trainable, step) == ("last_1_blocks", 8)
    )
    for name, value in found[0].items():
        torch.testing.assert_close(found[3][name], value, rtol=1e-4, atol=1e-6)


def test_every_epoch_has_a_view_and_none_comes_back_before_all_were_seen(tmp_path: Path) -> None:
    method = diet()
    prepare(method, tmp_path)
    epochs = [drawn(method, CLOCK.at(4 * epoch)) for epoch in range(9)]
    for cycle in (0, 3, 6):
        one, two, three = epochs[cycle : cycle + 3]
        assert not one.equal(two)
        assert not two.equal(three)
        assert not one.equal(three)
    assert all(any(other.equal(view) for other in epochs[:3]) for view in epochs[3:])
    assert not all(epochs[i].equal(epochs[i + 3]) for i in range(6)), "always the same order"
    assert drawn(method, CLOCK.at(8)).equal(drawn(method, CLOCK.at(11)))  # the same epoch
    again = diet(seed=1)
    prepare(again, tmp_path)
    assert all(drawn(again, CLOCK.at(4 * epoch)).equal(view) for epoch, view in enumerate(epochs))


def test_noise_has_its_share_of_the_deviation_and_the_steps_seed(tmp_path: Path) -> None:
    plain, noisy = diet(), diet(trunk__noise=0.2)
    prepare(plain, tmp_path)
    prepare(noisy, tmp_path)  # the same files
    expected = drawn(plain)
    torch.manual_seed(1)
    first = drawn(noisy)
    assert float((first - expected).std() / expected.std()) == pytest.approx(0.2, rel=0.1)
    assert not torch.equal(drawn(noisy), first)
    torch.manual_seed(1)
    assert torch.equal(drawn(noisy), first)


def test_every_image_has_views_of_its_own(tmp_path: Path) -> None:
    method = diet()
    one_picture = TensorImages(images().images[:1].expand(N, -1, -1, -1))
    method.prepare(one_picture, CLOCK, Runtime(cache=tmp_path))
    one, two = drawn(method).split(CHUNK)
    assert not one.equal(two)
    assert len(one.flatten(1).unique(dim=0)) > CHUNK // 2  # two crops may be the same


def test_a_short_training_needs_no_more_views_than_epochs(tmp_path: Path) -> None:
    assert len(prepare(diet(), tmp_path, Clock(0, 5, 4))) == 2


def test_runs_that_differ_behind_the_trunk_share_the_files(tmp_path: Path) -> None:
    first = diet()
    names = prepare(first, tmp_path)
    assert len(names) == 3
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "trunks").glob("*.bin"))]
    with torch.no_grad():  # what is trained does not count
        for parameter in first.parameters():
            parameter.add_(parameter.requires_grad)
    assert prepare(first, tmp_path) == names
    other = diet(seed=1, loss__label_smoothing=0.5, head__logit_scale=3.0)
    assert prepare(other, tmp_path, Clock(0, 80, 4, seed=7)) == names
    assert prepare(diet(trunk__views=2), tmp_path) == names
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "trunks").glob("*.bin"))] == stamps


def test_runs_that_differ_before_it_do_not(tmp_path: Path) -> None:
    names = set(prepare(diet(), tmp_path))
    for changes in (
        {"trunk__seed": 1},
        {"strength": 2},
        {"trainable": "last_2_blocks"},
        {"trunk__dtype": "bf16"},
    ):
        now = set(prepare(diet(**changes), tmp_path))
        assert len(now - names) == 3, changes
        names = now
    other = diet()
    with torch.no_grad():
        other.backbone.model.patch_embed.proj.bias[0] += 1  # type: ignore[union-attr, index, operator]
    assert len(set(prepare(other, tmp_path)) - names) == 3


def test_half_the_space_keeps_numbers_to_three_digits(tmp_path: Path) -> None:
    exact, half = diet(), diet(trunk__dtype="bf16")
    prepare(exact, tmp_path)
    prepare(half, tmp_path)
    assert drawn(half).dtype == torch.float32
    torch.testing.assert_close(drawn(half), drawn(exact), rtol=2**-8, atol=0)
    sizes = sorted({path.stat().st_size for path in (tmp_path / "trunks").glob("*.bin")})
    assert sizes[1] == 2 * sizes[0]


def test_a_file_cut_short_is_written_again(tmp_path: Path) -> None:
    method = diet()
    name = prepare(method, tmp_path)[0]
    path = tmp_path / "trunks" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    prepare(diet(), tmp_path)
    assert path.read_bytes() == content


def test_what_another_process_writes_is_waited_for_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = (
        {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("*.bin")}
        if prepare(diet(), tmp_path / "a")
        else {}
    )
    first, *others = sorted(reference)
    folder = tmp_path / "b" / "trunks"
    folder.mkdir(parents=True)
    other = FileLock(folder / first.replace(".bin", ".lock"))
    other.acquire()
    seen: list[int] = []
    replace = Path.replace

    def written(path: Path, target: Path) -> Path:
        seen.append(int(target.stem[-1]))
        if len(seen) == len(others):  # the other process is done
            (folder / first).write_bytes(reference[first])
            other.release()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", written)
    prepare(diet(), tmp_path / "b")
    assert seen == [1, 2]


def test_the_size_is_told_and_must_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(diet(), tmp_path)
    told = capsys.readouterr().out
    size = sum(path.stat().st_size for path in (tmp_path / "trunks").glob("*.bin"))
    assert f"trunk cache: 3 views, {byte_size(size)} in {tmp_path / 'trunks'}, 3 of them to write" in told
    prepare(diet(), tmp_path)
    assert "trunk cache" not in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size - 1))
    with pytest.raises(UserError, match=r"^trunk: .* free; choose fewer"):
        prepare(diet(), tmp_path / "full")
    assert not (tmp_path / "full").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainable": "all"}, r"^views: 3, .* nothing is frozen"),
        ({"trainable": "attn_proj"}, r"^views: 3, .* trainable attn_proj nothing is frozen"),
        ({"trainable": "norms"}, r"^views: 3, .* trainable norms nothing is frozen"),
        ({"mix__mixup_alpha": 0.4}, r"^trunk: .* mixup mixes"),
        ({"mix__cutmix_alpha": 0.4}, r"^trunk: .* cutmix mixes"),
        ({"trunk__views": 0, "trunk__noise": 0.2}, r"^noise: 0.2; .* no views"),
    ],
)
def test_mistakes_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        diet(**settings)


class Nameless(SingleView):
    __repr__ = object.__repr__


def test_views_that_do_not_tell_their_settings_are_refused(tmp_path: Path) -> None:
    method = diet()
    assert method.trunk is not None
    method.trunk.augment = Nameless(method.backbone.input)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^views: .*Nameless object.* __repr__"):
        prepare(method, tmp_path)


def test_a_folder_of_caches_is_needed() -> None:
    with pytest.raises(UserError, match=r"^trunk: .* needs a folder"):
        diet().prepare(images(), CLOCK, Runtime(cache=None))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "trunks").write_text("a file")
    with pytest.raises(UserError, match=r"^trunk: .* cannot be written"):
        prepare(diet(), tmp_path)


def test_a_disk_that_is_full_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"^trunk: .* cannot be written \(No space left"):
        prepare(diet(), tmp_path)
    assert {path.suffix for path in (tmp_path / "trunks").iterdir()} <= {".lock"}


def test_no_picture_is_decoded_for_a_step() -> None:
    stand_in = without_pixels(images())
    ours, whole = (next(TrainLoader(images, 8, seed=3).batches(5)) for images in (stand_in, images()))
    assert isinstance(ours.images, Tensor)
    assert ours.images.shape == (8, 3, 0, 0)
    assert ours.index.equal(whole.index)
    assert ours.label is not None
    assert ours.label.equal(ours.index % 3)
    assert [len(part) for part in ours.split(2)] == [4, 4]
    assert not diet().reads_images
    assert diet(trunk__views=0).reads_images
