"""What lies in the place of an image or of weights is called what it is."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from dinodiet.io.mistaken import other_format, page_or_pointer, why_no_image, why_unreadable

XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
FTYP = b"\x00\x00\x00\x20ftyp"


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", b"x")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    return stream.getvalue()


FOUND = {
    "s3": (XML + b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", "error AccessDenied"),
    "azure": (b"\xef\xbb\xbf" + XML + b"<Error><Code>BlobNotFound</Code><Message>x", "error BlobNotFound"),
    "google": (b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code>", "error NoSuchKey"),
    "bare": (b"<Error><Code>ExpiredToken</Code></Error>", "error ExpiredToken"),
    "page": (b"\r\n <!DOCTYPE HTML><title>Sign in</title>", "web page"),
    "page with a drawing": (b"<!doctype html><body><svg width='3'>", "web page"),
    "comment": (b"<!-- saved from --><html>", "web page"),
    "drawing": (XML + b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing"),
    "bare drawing": (b"<svg width='3'>", "SVG drawing"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "json": (b'{"error": {"code": 403}}', "JSON that begins"),
    "list": (b"\n[1, 2]", "JSON that begins"),
    "text": (b"Invalid username or password.", "text that begins 'Invalid username"),
    "lines": ("Überschrift\r\nzwei".encode(), "text that begins 'Überschrift zwei'"),
    "cut sign": (("ü" * 2000).encode()[:1023], "text"),
    "gzip": (gzip.compress(b"x"), "gzip archive"),
    "zip": (zipped(), "zip archive; unpack"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "empty zip"),
    "tar": (tarred(), "tar archive; unpack"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    "mp4": (FTYP + b"isom", "a video"),
    "mov": (FTYP + b"qt  ", "a video"),
    "mkv": (b"\x1aE\xdf\xa3\x01", "a video"),
    "avi": (b"RIFF\x00\x00\x00\x00AVI LIST", "a video"),
    "heic": (FTYP + b"heic", "HEIC"),
    "numpy": (b"\x93NUMPY\x01\x00", "NumPy"),
    "dicom": (bytes(128) + b"DICM", "DICOM"),
    "pickle": (b"\x80\x04\x95", "pickle"),
}


@pytest.mark.parametrize(("content", "what"), FOUND.values(), ids=FOUND)
def test_a_file_is_called_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    found = why_no_image(tmp_path / "a.jpg")
    assert found is not None and what in found and "\n" not in found


def test_a_table_of_text_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\n")
    assert why_unreadable(tmp_path / "labels.csv") is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("size", [1, 40])
def test_an_image_is_nothing_else(kind: str, size: int) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (65, 66, 67)).save(stream, format=kind)
    start = stream.getvalue()[:1024]
    assert page_or_pointer(start) is None and other_format(start) is None


@pytest.mark.parametrize("start", [b"P2\n2 2\n9\n1 2 3 4\n", b"", b"\x00\x01", b"\xff" * 50, b" \n"])
def test_what_is_not_known_is_not_named(start: bytes) -> None:
    assert page_or_pointer(start) is None and other_format(start) is None
