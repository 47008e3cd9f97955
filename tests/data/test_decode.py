"""Every kind of image becomes upright RGB of 8 bits; what is none is named in one line."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from dinodiet.data.decode import read_image
from dinodiet.data.images import FileImages
from dinodiet.errors import UserError

from .test_images import pixels, save


def _two_pixels(mode: str, *values: object) -> Image.Image:
    image = Image.new(mode, (2, 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)  # type: ignore[arg-type]
    return image


def _palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    if transparent:
        image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("rgb.png", _two_pixels("RGB", (1, 2, 3), (4, 5, 6)), [(1, 2, 3), (4, 5, 6)]),
        ("gray.png", _two_pixels("L", 7, 255), [(7, 7, 7), (255, 255, 255)]),
        ("bits.png", _two_pixels("1", 0, 1), [(0, 0, 0), (255, 255, 255)]),
        ("palette.png", _palette(transparent=False), [(10, 20, 30), (200, 100, 50)]),
        ("transparent_palette.png", _palette(transparent=True), [(255, 255, 255), (200, 100, 50)]),
        ("alpha.png", _two_pixels("RGBA", (9, 9, 9, 0), (1, 2, 3, 255)), [(255, 255, 255), (1, 2, 3)]),
        ("half_alpha.png", _two_pixels("LA", (0, 51), (100, 255)), [(204, 204, 204), (100, 100, 100)]),
        ("gray16.png", _two_pixels("I;16", 65535, 257 * 100 - 1), [(255, 255, 255), (100, 100, 100)]),
        ("gray32.tif", _two_pixels("I", 65535, 128), [(255, 255, 255), (0, 0, 0)]),
        ("cmyk.tif", _two_pixels("CMYK", (255, 0, 0, 0), (0, 0, 0, 255)), [(0, 255, 255), (0, 0, 0)]),
    ],
)
def test_every_pixel_type_becomes_rgb(
    tmp_path: Path, name: str, image: Image.Image, expected: list[tuple[int, int, int]]
) -> None:
    image.save(tmp_path / name)
    decoded = read_image(tmp_path / name)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == (3, 1, 2)
    assert [tuple(pixel) for pixel in decoded[:, 0].T.tolist()] == expected


def test_exif_orientation_is_undone(tmp_path: Path) -> None:
    upright = pixels(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the stored rows from the right-hand side down
    Image.fromarray(upright.numpy()).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png"), upright.permute(2, 0, 1))


def _truncated(path: Path) -> None:
    save(path, (50, 50))
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("missing.jpg", lambda path: None, "no such file"),
        ("text.jpg", lambda path: path.write_text("not an image"), "text that begins 'not an image'"),
        ("bytes.jpg", lambda path: path.write_bytes(bytes(9)), "cannot identify"),
        ("empty.png", lambda path: path.touch(), "empty"),
        ("truncated.jpg", _truncated, "truncated"),
        ("truncated.png", _truncated, "cannot be read"),
        ("float.tif", lambda path: _two_pixels("F", 0.25, 0.5).save(path), "pixel type F .* 0.25 to 0.5"),
        ("negative.tif", lambda path: _two_pixels("I", -1, 5).save(path), "values -1 to 5"),
    ],
)
def test_broken_image_is_named_in_one_line(tmp_path: Path, name: str, write, reason: str) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / name)
    with pytest.raises(UserError, match=reason) as caught:
        FileImages([tmp_path / name])[0]
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be read")
    assert "\n" not in str(caught.value)
