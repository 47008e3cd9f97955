"""Many images of any size as one picture: a contact sheet with captions, or named rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dinodiet.data.images import fetch
from dinodiet.io.files import write_atomically
from dinodiet.types import Images

SIDE, MARGIN, TEXT = 112, 8, 11  # pixels: of an image, around it, of letters
WIDTH, LINES = SIDE + 2 * MARGIN, 2  # of a cell, and lines of its caption
LETTERS = 18  # of a caption's line
NAMES = TEXT + MARGIN  # pixels: the height of names above a row


def contact_sheet(images: Images, positions: Tensor, captions: Sequence[str], columns: int = 8) -> Image.Image:
    """Return the images at positions, row by row, each whole within a square, with two lines of caption below it."""
    height = WIDTH + LINES * (TEXT + 3)
    rows = max(1, -(-len(positions) // columns))
    sheet = Image.new("RGB", (columns * WIDTH, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for place, (image, caption) in enumerate(zip(fetch(images, positions), captions, strict=True)):
        left, top = place % columns * WIDTH, place // columns * height
        sheet.paste(thumbnail(image), (left + MARGIN, top + MARGIN))
        for line, text in enumerate(caption.split("\n")[:LINES]):
            draw.text((left + MARGIN, top + WIDTH - MARGIN + line * (TEXT + 3)), short(text), "black", font)
    return sheet


@dataclass(frozen=True)
class Row:
    """Pictures side by side, with a name above each."""

    names: Sequence[str]
    pictures: Sequence[Image.Image]


def rows_of_pictures(rows: Sequence[Row]) -> Image.Image:
    """Return rows of equally many pictures as one, with their names above, if these are not those of the row before."""
    named = [number == 0 or list(row.names) != list(rows[number - 1].names) for number, row in enumerate(rows)]
    height = len(rows) * WIDTH + sum(named) * NAMES
    sheet = Image.new("RGB", (len(rows[0].pictures) * WIDTH, height), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT), 0
    for row, told in zip(rows, named, strict=True):
        top += NAMES if told else 0
        for column, (name, picture) in enumerate(zip(row.names, row.pictures, strict=True)):
            if told:
                draw.text((column * WIDTH + MARGIN, top - TEXT), short(name), "black", font)
            sheet.paste(squared(picture), (column * WIDTH + MARGIN, top + MARGIN))
        top += WIDTH
    return sheet


def beside(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Return pictures beside each other, pixel by pixel as they are, with a title above each."""
    gap, letters = 2 * MARGIN, max(2 * TEXT, pictures[0].width // 40)
    height = letters + gap + max(picture.height for picture in pictures)
    sheet = Image.new("RGB", (sum(picture.width + gap for picture in pictures) - gap, height), "white")
    draw, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(letters), 0
    for picture, title in zip(pictures, titles, strict=True):
        draw.text((left + MARGIN, MARGIN), title, "black", font)
        sheet.paste(picture, (left, letters + gap))
        left += picture.width + gap
    return sheet


def thumbnail(image: Tensor) -> Image.Image:
    """Return an image, uint8 (3, H, W), as `squared`."""
    return squared(stored(image))


def stored(image: Tensor) -> Image.Image:
    """Return an image as it is stored, uint8 (3, H, W), as a picture."""
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def pixels(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in 0..1 as a picture."""
    return Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy())


def squared(picture: Image.Image, side: int = SIDE) -> Image.Image:
    """Return a picture whole in a grey square; what is smaller is enlarged pixel by pixel."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    square = Image.new("RGB", (side, side), (230, 230, 230))
    square.paste(picture.resize(size, how), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def short(text: str, letters: int = LETTERS) -> str:
    """Return what is printable of a text; of one that is too long its end, which tells files apart."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= letters else f"..{plain[2 - letters :]}"


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture as a PNG."""
    write_atomically(path, lambda out: picture.save(out, "PNG"))
