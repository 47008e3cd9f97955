"""Files of 16 bits a sample: gray, colours and opacity are scaled by the bits that are used; none is near black."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dinodiet.data.decode import decode, read_image
from dinodiet.data.samples import TooBright
from dinodiet.errors import UserError
from tests.data.deep_files import Values, png, pnm, tiff

SEEN = np.random.default_rng(0).integers(0, 256, (6, 5, 4)).astype(np.uint16)  # what people should see


def filled(top: int, bands: int = 3) -> Values:
    """Return what 8-bit values are of a scale up to `top`."""
    return np.asarray(np.rint(SEEN[..., :bands] * (top / 255)).astype(np.uint16))


def read(data: bytes, bits: int = 16) -> Tensor:
    return decode(io.BytesIO(data), "a file", bits=bits).permute(1, 2, 0).int()


def seen(bands: int = 3) -> Tensor:
    return torch.from_numpy(SEEN[..., :bands].astype(np.int32)).expand(-1, -1, 3)


def over_white() -> Tensor:
    image = Image.frombytes("RGBA", (5, 6), SEEN.astype(np.uint8).tobytes())
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return torch.from_numpy(np.array(whole)).int()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("write", [png, tiff, lambda values: tiff(values, order=">", packed=True)])
def test_gray_and_colours_are_scaled_alike(write, bands: int, bits: int) -> None:  # type: ignore[no-untyped-def]
    assert torch.equal(read(write(filled(2**bits - 1, bands)), bits), seen(bands))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_tiff_of_colours_in_both_byte_orders_packed_or_not(order: str, packed: bool) -> None:
    assert torch.equal(read(tiff(filled(4095), order=order, packed=packed), 12), seen())


@pytest.mark.parametrize("packed", [False, True])
def test_tiff_of_inks(packed: bool) -> None:
    cmyk = read(tiff(filled(4095, 4), packed=packed, tags={262: 5}), 12)
    plain = Image.frombytes("CMYK", (5, 6), SEEN.astype(np.uint8).tobytes()).convert("RGB")
    assert torch.equal(cmyk, torch.from_numpy(np.array(plain)).int())


@pytest.mark.parametrize("opacity", [12, 16])  # some write it in 16 bits beside colours of fewer
def test_opacity_is_over_white(opacity: int) -> None:
    values = filled(4095, 4)
    values[..., 3] = filled(2**opacity - 1, 4)[..., 3]
    for data in (png(values), tiff(values, tags={338: 2})):
        assert (read(data, 12) - over_white()).abs().max() <= 1
    gray = read(png(values[..., [0, 3]]), 12)
    assert (gray[..., 0] - over_white()[..., 0]).abs().max() <= 1


def test_colours_multiplied_by_their_opacity() -> None:
    values = filled(65535, 4).astype(np.int64)
    values[0, 0, 3] = 65535
    expected = read(tiff(values, tags={338: 2}))
    values[..., :3] = values[..., :3] * values[..., 3:] // 65535
    assert (read(tiff(values, tags={338: 1})) - expected).abs().max() <= 1


@pytest.mark.parametrize("bands", [1, 3])
def test_one_transparent_value_is_white(bands: int) -> None:
    values = filled(65535, bands)
    key = values[2, 3].astype(">u2").tobytes()
    assert read(png(values, tRNS=key))[2, 3].tolist() == [255, 255, 255]
    assert torch.equal(read(png(values, tRNS=key))[0, 0], seen(bands)[0, 0])


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_the_head_of_pgm_and_ppm_says_what_is_white(bands: int, plain: bool) -> None:
    for largest in (1000, 4095):  # whatever the other files use
        for bits in (10, 16):
            assert (read(pnm(filled(largest, bands), largest, plain=plain), bits) - seen(bands)).abs().max() <= 1
    assert torch.equal(read(pnm(filled(4095, bands), 65535, plain=plain), 12), seen(bands))


def test_tiff_of_12_bits_a_sample_says_so_itself() -> None:
    rows = filled(4095, 1)[:, :4, 0].tolist()
    packed = b"".join(sum(v << 12 * (3 - place) for place, v in enumerate(row)).to_bytes(6, "big") for row in rows)
    words = np.frombuffer(packed, "<u2").reshape(6, 3, 1)
    for bits in (10, 16):
        assert torch.equal(read(tiff(words, tags={256: 4, 258: 12}), bits), seen(1)[:, :4])


def test_a_photograph_is_upright(tmp_path: Path) -> None:
    notes = Image.Exif()
    notes[0x0112] = 6
    (tmp_path / "a.png").write_bytes(png(filled(4095), eXIf=notes.tobytes()[6:]))
    (tmp_path / "a.tif").write_bytes(tiff(filled(4095), tags={0x0112: 6}))
    turned = seen().permute(2, 0, 1).rot90(-1, (1, 2))
    for name in ("a.png", "a.tif"):
        assert torch.equal(read_image(tmp_path / name, bits=12).int(), turned)


@pytest.mark.parametrize("write", [png, tiff])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_brighter_value_is_refused_with_the_key_that_would_do(write, bands: int) -> None:  # type: ignore[no-untyped-def]
    bright = filled(1023, bands)
    bright[0, 0] = 5000
    with pytest.raises(TooBright, match=r"^a file: values up to 5000, more than the 1023 of bits=10; set bits=13, or"):
        read(write(bright), 10)
    bright[0, 0] = 40000
    with pytest.raises(TooBright, match=r"up to 40000, .* of bits=12; set bits=16$"):
        read(write(bright), 12)
    read(write(bright), 16)


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "planes.tif").write_bytes(tiff(filled(4095), separate=True))
    (tmp_path / "short.png").write_bytes(png(filled(4095))[:-40])
    (tmp_path / "short.tif").write_bytes(tiff(filled(4095), packed=True).replace(b"\x78\x9c", b"\x00\x00"))
    (tmp_path / "short.ppm").write_bytes(pnm(filled(4095), 65535)[:-5])
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "large.tif")
    Image.fromarray(np.full((4, 4), -3, np.int32)).save(tmp_path / "negative.tif")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    words = {
        "planes": "separate planes",
        "large": "70000 to 70000, not 0 to 65535",
        "negative": "-3",
        "float": "type F",
    }
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=f"{path.name}: cannot be read .*{words.get(path.stem, '')}") as raised:
            read_image(path)
        assert "\n" not in str(raised.value) and "()" not in str(raised.value)
