"""Images from files, bytes, PIL and arrays; and each way in which one can be none, said in one line."""

from __future__ import annotations

import io
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import photographs
from omnivec.errors import ItemError
from omnivec.inputs.image.pixels import MAX_PIXELS, decode_image, read_header
from photographs import encoded


def pixels(item, enough=None, **limits) -> np.ndarray:
    return np.asarray(decode_image(read_header(item, **limits), enough, **limits).image)


def small(mode: str = "RGB", size: tuple[int, int] = (21, 13)) -> Image.Image:
    return photographs.rgb("coffee").resize(size).convert(mode)


LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WebP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG", "GIF"])
def test_files_of_each_format_are_read(kind, tmp_path):
    image = small(size=(160, 90))
    path = tmp_path / "named.wrongly"  # the content tells, not the name
    path.write_bytes(encoded(image, kind, **LOSSLESS.get(kind, {})))
    got, want = pixels(path), np.asarray(image)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).mean() < (0.7 if kind in LOSSLESS else 12)
    assert np.array_equal(pixels(path.read_bytes()), got)
    with Image.open(path) as reference:
        assert np.array_equal(got, np.asarray(reference.convert("RGB")))


def test_heic_is_read(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    path, file = tmp_path / "a.heic", io.BytesIO()
    pillow_heif.from_pillow(small(size=(64, 48))).save(file, format="HEIF", quality=95)
    path.write_bytes(file.getvalue())
    assert np.abs(pixels(path).astype(int) - np.asarray(small(size=(64, 48)))).mean() < 5


def test_heic_without_its_library_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(ItemError) as failed:
        read_header(path)
    assert str(failed.value) == f"{path}: HEIC is read with pillow-heif: pip install pillow-heif"


def test_arrays_and_pil_images_are_taken_as_they_are():
    image = small()
    array = np.asarray(image)
    assert np.array_equal(pixels(array), array)
    assert np.array_equal(pixels(image), array)
    grey = array[..., 1]
    assert np.array_equal(pixels(grey), np.stack([grey] * 3, -1))
    turned = array.transpose(1, 0, 2)  # no contiguous memory
    assert np.array_equal(pixels(turned), turned)


def test_transparent_places_are_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[0, 1] = (200, 0, 0, 0)  # a colour that nobody sees
    rgba[1, 0] = (0, 0, 0, 51)  # a fifth of black: 255 * 0.8
    want = np.array([[[10, 20, 30], [255] * 3], [[204] * 3, [255] * 3]], np.uint8)
    assert np.array_equal(pixels(rgba), want)
    assert np.array_equal(pixels(encoded(Image.fromarray(rgba), "PNG")), want)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([9, 9, 9, 250, 0, 0])
    for transparency in (1, b"\xff\x00"):  # one colour, or the alpha of each
        got = pixels(encoded(palette, "PNG", transparency=transparency))
        assert got.tolist() == [[[9, 9, 9], [255, 255, 255]]]
    grey_alpha = Image.merge("LA", (Image.new("L", (1, 1), 7), Image.new("L", (1, 1), 0)))
    assert pixels(encoded(grey_alpha, "PNG")).tolist() == [[[255] * 3]]


def test_palettes_grey_bilevel_and_cmyk_become_colours():
    assert np.array_equal(pixels(encoded(small("L"), "PNG")), np.asarray(small("L").convert("RGB")))
    assert np.array_equal(pixels(encoded(small("1"), "PNG")), np.asarray(small("1").convert("RGB")))
    assert np.array_equal(pixels(encoded(small("P"), "GIF")), np.asarray(small("P").convert("RGB")))
    cmyk = encoded(small("CMYK", (160, 90)), "JPEG", quality=95)
    assert np.abs(pixels(cmyk).astype(int) - np.asarray(small(size=(160, 90)))).mean() < 4


def png16(samples: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, grey (h, w) or RGB (h, w, 3), which Pillow does not write."""
    height, width = samples.shape[:2]
    colour = 0 if samples.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    whole = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        whole += len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
    return whole


def test_of_sixteen_bits_the_upper_eight_are_taken():
    samples = np.array([[0, 255, 256], [32768, 65279, 65535]])
    upper = (samples >> 8).astype(np.uint8)
    assert np.array_equal(pixels(png16(samples)), np.stack([upper] * 3, -1))
    colours = np.stack([samples, samples[::-1], samples[:, ::-1]], -1)
    assert np.array_equal(pixels(png16(colours)), (colours >> 8).astype(np.uint8))
    tiff = encoded(Image.fromarray(samples.astype(np.uint16)), "TIFF")
    assert np.array_equal(pixels(tiff), np.stack([upper] * 3, -1))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_refused(mode):
    with pytest.raises(ItemError, match=f"PIL image: its pixels are 32-bit numbers .mode {mode}."):
        pixels(Image.new(mode, (3, 2), 5))


# What a camera held this way has stored, of an image that is upright once it is undone.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WebP"])
def test_images_are_turned_as_exif_says(kind, orientation):
    want = np.asarray(small())
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](want)))
    options = {"lossless": True} if kind == "WebP" else {}
    file = encoded(stored, kind, exif=exif, **options)
    assert np.array_equal(pixels(file), want)
    assert np.array_equal(pixels(Image.open(io.BytesIO(file))), want)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_photograph_is_turned_with_its_partly_filled_edge(orientation):
    want = np.asarray(photographs.rgb("china").crop((0, 0, 601, 403)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](want)))
    seen = decode_image(
        read_header(encoded(stored, "JPEG", quality=95, exif=exif)),
        lambda height, width: (height // 4, width // 4),
    )
    assert (seen.height, seen.width) == (403, 601)
    assert seen.image.size == (151, 101)  # a quarter, rounded up
    left, upper, right, lower = seen.box
    assert (right - left, lower - upper) == (601 / 4, 403 / 4)
    assert left == (0.75 if orientation in (2, 3, 6, 7) else 0)
    assert upper == (0.25 if orientation in (3, 4, 7, 8) else 0)
    shrunk = seen.image.resize((60, 40), Image.Resampling.BOX, box=seen.box)
    direct = Image.fromarray(want).resize((60, 40), Image.Resampling.BOX)
    assert np.abs(np.asarray(shrunk, int) - np.asarray(direct)).mean() < 2.5


def test_a_broken_orientation_costs_no_pixels():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04junk\0\0\0\0"
    file = encoded(small(), "JPEG", exif=exif)
    assert pixels(file).shape == (13, 21, 3)


def test_the_first_of_many_frames_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF"):
        file = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert pixels(file)[0, 0].tolist() == [255, 0, 0]


def test_jpeg_is_decoded_no_larger_than_is_enough():
    file = encoded(photographs.rgb("china"), "JPEG")
    for share, side in ((1, 640), (2, 320), (3, 320), (4, 160), (8, 80), (100, 80)):
        enough = lambda height, width, share=share: (height // share, width // share)  # noqa: E731
        assert decode_image(read_header(file), enough).image.width == side
    png = encoded(photographs.rgb("china"), "PNG")
    assert decode_image(read_header(png), lambda height, width: (1, 1)).image.width == 640


def wrong(tmp_path: Path) -> dict[str, tuple[object, str]]:
    """Items that are no images, and what is said of each."""
    jpeg = encoded(small(size=(160, 90)), "JPEG")
    files = {
        "empty.jpg": (b"", "empty (0 bytes): there is no image in it"),
        "text.png": (
            b"Dear diary, today\n",
            "not an image: it begins with b'Dear diary, '; supported formats are JPEG, PNG",
        ),
        "cut.jpg": (jpeg[:-400], "damaged or cut off (image file is truncated"),
        "cut.png": (encoded(small(), "PNG")[:200], "damaged or cut off ("),
        "header.jpg": (jpeg[:30], "damaged or cut off ("),
        "film.mp4": (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(99), "not an image: it begins with"),
        "sound.webp": (b"RIFF\0\0\0\0WAVEfmt ", "not an image: it begins with"),
    }
    said: dict[str, tuple[object, str]] = {}
    for name, (content, why) in files.items():
        (tmp_path / name).write_bytes(content)
        said[name] = (tmp_path / name, why)
    said["missing.jpg"] = (tmp_path / "missing.jpg", "does not exist")
    said["line\\nbreak"] = (tmp_path / "line\nbreak", "does not exist")
    said[tmp_path.name] = (tmp_path, "a folder, not an image file")
    said["image file of 5 bytes"] = (b"hello", "not an image: it begins with b'hello'")
    said["image array: float32 (3, 4, 4)"] = (
        np.zeros((3, 4, 4), np.float32),
        "an image in memory must be uint8",
    )
    said["image array: uint8 (3, 4, 5)"] = (np.zeros((3, 4, 5), np.uint8), "an image in memory must be uint8")
    said["image array: 0 x 4 pixels"] = (np.zeros((4, 0, 3), np.uint8), "there is nothing to see")
    said["PIL image: 0 x 9 pixels"] = (Image.new("RGB", (0, 9)), "there is nothing to see")
    said["photo.jpg"] = ("photo.jpg", "a str is text, never an image: give pathlib.Path('photo.jpg')")
    said["7, an int is not an image"] = (7, "give a pathlib.Path, a PIL image, or uint8 (h, w, 3)")
    return said


def test_what_is_no_image_is_named_in_one_line(tmp_path):
    for name, (item, why) in wrong(tmp_path).items():
        with pytest.raises(ItemError) as failed:
            decode_image(read_header(item))
        message = str(failed.value)
        assert name in message and why in message and "\n" not in message, message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ItemError, match=r"pipe\.jpg: not a regular file"):
        read_header(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_decompression_bomb_is_refused_by_its_header(kind, tmp_path):
    side = 17_000
    bomb = {
        "PNG": lambda: png16(np.zeros((1, 1))).replace(
            b"IHDR\0\0\0\1\0\0\0\1", b"IHDR" + side.to_bytes(4, "big") * 2
        ),
        "BMP": lambda: encoded(small(), "BMP").replace(
            (21).to_bytes(4, "little") + (13).to_bytes(4, "little"), side.to_bytes(4, "little") * 2
        ),
        "TIFF": lambda: (
            encoded(small(), "TIFF")
            .replace(b"\0\1\4\0\1\0\0\0\x15\0\0\0", b"\0\1\4\0\1\0\0\0" + side.to_bytes(4, "little"))
            .replace(b"\1\1\4\0\1\0\0\0\x0d\0\0\0", b"\1\1\4\0\1\0\0\0" + side.to_bytes(4, "little"))
        ),
    }[kind]()
    if kind == "PNG":  # its header has a checksum
        bomb = bomb[:29] + zlib.crc32(bomb[12:29]).to_bytes(4, "big") + bomb[33:]
    path = tmp_path / "bomb"
    path.write_bytes(bomb)
    with pytest.raises(ItemError) as failed:
        read_header(path)
    assert str(failed.value) == (
        f"{path}: 17,000 x 17,000 = 289,000,000 pixels, over the limit of 268,435,456: a decompression bomb? "
        "else make it smaller"
    )
    assert MAX_PIXELS == 268_435_456


def test_the_limit_is_also_held_when_the_file_has_changed(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(small(), "PNG"))
    picture = read_header(path, 300)
    assert picture.pixels == 273
    path.write_bytes(encoded(small(size=(40, 40)), "PNG"))
    with pytest.raises(ItemError, match=r"40 x 40 = 1,600 pixels, over the limit of 300"):
        decode_image(picture, None, 300)


def test_keys_tell_equal_files(tmp_path):
    one, other = tmp_path / "a.png", tmp_path / "b.png"
    for path in (one, other):
        path.write_bytes(encoded(small(), "PNG"))
    assert read_header(one).key == read_header(one).key != read_header(other).key
    assert read_header(one.read_bytes()).key == read_header(other.read_bytes()).key
    assert read_header(small()).key is None
    assert read_header(np.asarray(small())).key is None


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WebP"]),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
)
def test_damage_ends_in_pixels_or_in_one_line(kind, cut, changes):
    file = bytearray(FILES[kind])
    for place, value in changes:
        file[int(place * len(file))] = value
    file = file[: round(cut * len(file))] if cut < 0.5 else file
    try:
        shape = pixels(bytes(file), lambda height, width: (4, 4), max_pixels=1 << 20).shape
    except ItemError as error:
        assert "\n" not in str(error)
    else:
        assert len(shape) == 3 and shape[2] == 3


GRADIENT = Image.fromarray((np.indices((24, 31)).sum(0)[..., None] * np.array([4, 3, 2])).astype(np.uint8))
FILES = {kind: encoded(GRADIENT, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WebP")}
