"""Thumbnails: the right size, upright, quickly decoded, safe, and silent about where they were taken."""

from __future__ import annotations

import base64
import io
import os
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnivec.errors import ItemError
from omnivec.inputs.image import MODALITY
from omnivec.inputs.image import thumbnail as thumbnails
from omnivec.inputs.image.pixels import decode_image
from omnivec.inputs.image.thumbnail import thumbnail
from omnivec.viewer.thumbnails import data_uri, png, smallest
from photographs import enlarged, paths, rgb


@pytest.mark.parametrize(
    ("size", "within", "wanted"),
    [
        ((640, 480), (256, 256), (256, 192)),
        ((480, 640), (256, 256), (192, 256)),
        ((640, 480), (512, 100), (133, 100)),
        ((40, 30), (256, 256), (40, 30)),
        ((3000, 2), (256, 256), (256, 1)),
    ],
)
def test_a_picture_fits_and_keeps_its_shape(tmp_path, size, within, wanted):
    Image.new("RGB", size, "teal").save(tmp_path / "a.png")
    small = thumbnail(tmp_path / "a.png", *within)
    assert (small.size, small.mode) == (wanted, "RGB")
    assert small.getcolors() == [(wanted[0] * wanted[1], (0, 128, 128))]


def test_it_is_turned_as_exif_says(tmp_path):
    quarters = Image.new("RGB", (64, 32), "red")
    quarters.paste("blue", (32, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what was left is above
    quarters.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    small = thumbnail(tmp_path / "turned.jpg", 256, 256)
    assert small.size == (32, 64)
    pixels = np.asarray(small)
    assert pixels[8, 16, 0] > 240 > 15 > pixels[8, 16, 2]
    assert pixels[56, 16, 2] > 240


def test_transparent_places_are_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert thumbnail(tmp_path / "clear.png", 8, 8).getcolors() == [(64, (255, 255, 255))]


def test_a_big_jpeg_is_decoded_at_a_fraction_and_looks_the_same(tmp_path, monkeypatch):
    whole = enlarged("chelsea", 2048, 1536)
    whole.save(tmp_path / "big.jpg", quality=92)
    decoded = []

    def watched(*arguments):
        decoded.append(decode_image(*arguments))
        return decoded[-1]

    monkeypatch.setattr(thumbnails, "decode_image", watched)
    small = thumbnail(tmp_path / "big.jpg", 250, 250)
    assert decoded[0].image.size == (256, 192)
    wanted = whole.resize(small.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(small, float) - np.asarray(wanted, float)).mean() < 2.5


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_what_cannot_be_shown_is_said_in_one_line(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(100_000, 100_000))
    (tmp_path / "cut.png").write_bytes(png_header(100, 100))
    (tmp_path / "text.png").write_text("no image")
    os.mkfifo(tmp_path / "fifo.png")
    for name, why in {
        "bomb.png": "over the limit",
        "cut.png": "damaged or cut off",
        "text.png": "no image",
        "fifo.png": "not a regular file",
        "none.png": "does not exist",
        ".": "a folder",
    }.items():
        with pytest.raises(ItemError, match=why) as caught:
            thumbnail(tmp_path / name, 256, 256)
        assert "\n" not in str(caught.value)


def test_nothing_of_the_file_but_its_pixels_is_passed_on(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    photograph = rgb("chelsea").resize((200, 150))
    options: dict[str, Any] = {"exif": exif, "icc_profile": b"SECRET PROFILE", "comment": b"SECRET WORDS"}
    photograph.save(tmp_path / "a.jpg", **options)
    assert (tmp_path / "a.jpg").read_bytes().count(b"SECRET") == 3
    for side in (100, 256):  # resized, and at its own size
        small = thumbnail(tmp_path / "a.jpg", side, side)
        assert b"SECRET" not in png(small) + smallest(small)[1]


def test_drawings_stay_exact_and_photographs_small():
    drawing = Image.new("RGB", (200, 100), "white")
    drawing.paste("black", (50, 20, 150, 80))
    kind, content = smallest(drawing)
    assert kind == "image/png" and len(content) < 1000
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(drawing))
    photograph = Image.open(paths()["china"]).resize((256, 171))
    assert smallest(photograph)[0] == "image/jpeg"
    head, payload = re.fullmatch(r"data:(image/\w+);base64,([\w+/=]+)", data_uri(photograph)).groups()
    assert head == "image/jpeg" and Image.open(io.BytesIO(base64.b64decode(payload))).size == (256, 171)


def test_pixel_size_is_said_where_it_is_known():
    assert MODALITY.measure({"width": 4032, "height": 3024}) == "4032 x 3024"
    for metadata in ({}, {"width": 3}, {"width": "4", "height": "3"}, {"width": True, "height": 2}):
        assert MODALITY.measure(metadata) == ""
