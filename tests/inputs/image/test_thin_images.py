"""Images of any shape in bounded memory: what a crop leaves out is not resized, and the pixels are the same."""

from __future__ import annotations

import importlib
import io
import struct
import threading
import tracemalloc
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
from omnivec.inputs.image import processing as module
from omnivec.inputs.image.hashes import image_hash
from omnivec.inputs.image.image import ImagePreparer
from omnivec.inputs.image.pixels import MAX_SIDE, DecodedImage, read_header
from omnivec.inputs.image.processing import Processing
from omnivec.inputs.image.published import from_transformers
from omnivec.inputs.image.thumbnail import thumbnail
from omnivec.ops.process import MemoryReservation

CROPPED = Processing((224, 224), (224, 224))
RANDOM = np.random.default_rng(0)


def strip(width: int, height: int) -> Image.Image:
    """A photograph's rows, as wide or as high as is asked for."""
    whole = np.asarray(photographs.rgb("coffee"))
    tiled = np.tile(whole, (-(-height // whole.shape[0]), -(-width // whole.shape[1]), 1))
    return Image.fromarray(tiled[:height, :width])


def png(width: int, height: int) -> bytes:
    """A PNG file of one colour, of a few hundred bytes whatever its size; Pillow would hold its pixels."""
    rows = zlib.compressobj()
    line = b"\0" + bytes((200, 30, 20)) * width
    data = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def shown(processing: Processing, item: Any) -> np.ndarray:
    preparer = ImagePreparer(processing)
    [row] = preparer.prepare([preparer.decode(item)])
    assert not isinstance(row, ItemError), row
    return row[0].arrays["pixels"]


def whole(processing: Processing, image: Image.Image) -> np.ndarray:
    """All of the image resized, then cropped."""
    rows, columns = processing.resized(image.height, image.width)
    pixels = np.asarray(image.resize((columns, rows), module.FILTERS.index(processing.filter)))
    top, left = (rows - processing.size[0]) // 2, (columns - processing.size[1]) // 2
    return pixels[top : top + processing.size[0], left : left + processing.size[1]]


@settings(max_examples=25, deadline=None)
@given(
    short=st.integers(1, 300),
    ratio=st.floats(1.0, 60.0),
    lies=st.booleans(),
    kept=st.integers(8, 120),
    more=st.floats(1.0, 2.5),
    filter=st.sampled_from(["bilinear", "bicubic", "lanczos"]),
)
def test_cropping_first_shows_the_same_pixels(
    short: int, ratio: float, lies: bool, kept: int, more: float, filter: Any
) -> None:
    long = int(short * ratio)
    image = strip(*((long, short) if lies else (short, long)))
    edge = int(kept * more)
    processing = Processing((kept, kept), (edge, edge), "shortest", filter)
    got, expected = shown(processing, image).astype(int), whole(processing, image).astype(int)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2
    rows, columns = processing.resized(image.height, image.width)
    if rows * columns <= 16 * kept * kept:
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    "kind", ["CLIP", "Bit", "DeiT", "ChineseCLIP", "MobileNetV2", "PoolFormer", "Levit", "ViT"]
)
def test_thin_images_are_as_transformers_processors_have_them(kind: str) -> None:
    place = {"MobileNetV2": "mobilenet_v2", "ChineseCLIP": "chinese_clip"}.get(kind, kind.lower())
    processors = importlib.import_module(f"transformers.models.{place}.image_processing_pil_{place}")
    reference = getattr(processors, f"{kind}ImageProcessorPil")()
    processing = from_transformers({"image_processor_type": f"{kind}ImageProcessor"})
    factor, addend = processing.affine()
    for size in ((900, 40), (40, 900), (3000, 7), (9, 2000), (300, 1), (1, 300)):
        image = strip(*size)
        got = (shown(processing, image) * factor + addend).transpose(2, 0, 1)
        expected = np.asarray(reference(image)["pixel_values"][0])
        assert np.abs(got - expected).max() <= 2.01 * factor.max(), size


def test_a_wrong_place_of_the_crop_is_told_apart() -> None:
    image = Image.fromarray(RANDOM.integers(0, 256, (20, 900, 3), dtype=np.uint8))
    exact = whole(CROPPED, image).astype(int)
    assert np.abs(shown(CROPPED, image) - exact).max() <= 2
    assert np.abs(np.roll(exact, 1, axis=1) - exact).max() > 20


SHAPES = [
    (20_000, 1),
    (1, 20_000),
    (65_535, 1),
    (1, 65_535),
    (65_535, 3),
    (1, 1),
    (2, 1),
    (MAX_SIDE, 1),
    (1, MAX_SIDE),
]


@pytest.mark.parametrize("size", SHAPES, ids=str)
@pytest.mark.parametrize("fit", ["shortest", "cover", "exact", "contain"])
def test_a_thin_image_takes_bounded_memory(size: tuple[int, int], fit: Any) -> None:
    content = png(*size)
    target = (256, 256)
    processing = Processing((224, 224), target, fit)
    ceiling = resident_peak(lambda: shown(processing, content))
    assert ceiling < 150e6
    pixels = shown(processing, content)
    assert pixels.shape == (224, 224, 3)
    assert pixels[112, 112].tolist() == [200, 30, 20]


def resident_peak(call: Any) -> float:
    """Bytes that a call adds to the process at its worst: Pillow's own are none of Python's."""
    from omnivec.models.memory import peak_of
    from omnivec.ops.process import STATM, resident

    if not STATM.exists():
        pytest.skip("only Linux says what is resident")
    start = resident()
    return peak_of(call) - start


def test_hashes_and_thumbnails_of_thin_images_take_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "thin.png"
    file.write_bytes(png(MAX_SIDE, 1))
    tracemalloc.start()
    try:
        image_hash(file)
        assert thumbnail(file, 256, 256).size == (256, 1)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_a_side_beyond_the_limit_is_refused_by_its_header() -> None:
    with pytest.raises(ItemError, match=r"1,048,577 x 1 pixels: a side is over the limit of 1,048,576"):
        read_header(png(MAX_SIDE + 1, 1))


def test_what_is_decoded_at_a_time_is_bounded() -> None:
    room, inside, most = MemoryReservation(together=100), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with room.entry() as take:
            take(60)
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.01)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    with room.entry() as take:
        take(1000)  # What is larger than all comes in alone.


def test_a_ceiling_of_memory_refuses_what_would_break_it_and_takes_the_others() -> None:
    from omnivec.ops.process import STATM, resident

    if not STATM.exists():
        pytest.skip("only Linux says what is resident")
    preparer = ImagePreparer(CROPPED, threads=2)
    preparer.room.ceiling = resident() + 60_000_000
    large, small = png(4000, 4000), png(300, 200)
    rows = preparer.prepare([preparer.decode(item) for item in (small, large, small)])
    assert isinstance(rows[1], ItemError)
    assert "max_memory" in str(rows[1])
    assert not isinstance(rows[0], ItemError) and not isinstance(rows[2], ItemError)
    # Of a JPEG file no more is decoded than is enough.
    file = io.BytesIO()
    strip(4000, 4000).save(file, "JPEG")
    preparer.room.ceiling = resident() + 60_000_000
    assert not isinstance(preparer.prepare([preparer.decode(file.getvalue())])[0], ItemError)


MODES = [
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I;16",
    "I;16B",
]


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_every_mode_with_a_white_is_shown(mode: str) -> None:
    """A white and a black half stay so, whatever the mode says them in."""
    pixels = np.zeros((40, 40), np.uint8)
    pixels[:, 20:] = 255
    grey = Image.fromarray(pixels)
    if mode in ("La", "RGBa"):
        image = grey.convert(mode.upper()).convert(mode)
    elif mode == "PA":
        image = grey.convert("P").convert("PA")
    elif mode == "LAB":
        image = Image.merge("LAB", (grey, *[Image.new("L", grey.size, 128)] * 2))
    elif mode.startswith("I;16"):
        high = pixels.astype(np.uint16) * 257
        image = Image.frombytes(
            mode, grey.size, high.astype(">u2" if mode.endswith("B") else "<u2").tobytes()
        )
    else:
        image = grey.convert("RGB").convert(mode)
    assert image.mode == mode
    got = shown(Processing((40, 40), (40, 40), fit="exact"), image)
    assert got[:, :18].max() <= 2 and got[:, 22:].min() >= 252


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_refused_by_name(mode: str) -> None:
    error: Any = ImagePreparer(CROPPED).prepare([read_header(Image.new(mode, (5, 5)))])[0]
    with pytest.raises(ItemError, match=f"mode {mode}"):
        raise error


ARRAYS = {
    "transparent": (np.zeros((6, 5, 4), np.uint8), None),
    "a view": (RANDOM.integers(0, 255, (12, 10, 3), dtype=np.uint8)[::2, ::-2], None),
    "Fortran's order": (np.asfortranarray(RANDOM.integers(0, 255, (6, 5, 3), dtype=np.uint8)), None),
    "big-endian": (np.zeros((6, 5, 3), ">u1"), None),
    "floats": (np.zeros((6, 5, 3), np.float32), r"float32 \(6, 5, 3\)"),
    "truth values": (np.zeros((6, 5, 3), bool), r"bool \(6, 5, 3\)"),
    "16 bits": (np.zeros((6, 5, 3), ">u2"), r">u2|uint16"),
    "nothing": (np.zeros((0, 5, 3), np.uint8), "nothing to see"),
    "channels first": (np.zeros((3, 6, 5), np.uint8), r"\(3, 6, 5\)"),
}


@pytest.mark.parametrize(("array", "why"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_taken_as_they_lie_or_refused(array: np.ndarray, why: str | None) -> None:
    if why is None:
        got = shown(Processing((6, 5), (6, 5), fit="exact"), array)
        expected = np.full((6, 5, 3), 255) if array.shape[2] == 4 else array
        assert np.array_equal(got, expected)
        return
    with pytest.raises(ItemError, match=why):
        read_header(array)


def test_a_box_of_a_reduced_image_is_cropped_in_its_own_pixels() -> None:
    """A reduced image has a last column that is only partly filled: the crop's place counts the filled part alone."""
    image = strip(900, 40)
    exact = DecodedImage(image, 40, 900, (0.0, 0.0, 900.0, 40.0))
    padded = Image.new("RGB", (910, 44))
    padded.paste(image, (6, 2))
    moved = DecodedImage(padded, 40, 900, (6.0, 2.0, 906.0, 42.0))
    assert CROPPED.resized(40, 900)[1] > 16 * 224
    got, expected = CROPPED.apply(moved).astype(int), CROPPED.apply(exact).astype(int)
    inner = slice(16, -16)  # the filter reads the paste's black border at the edges of the box
    assert np.abs(got[inner] - expected[inner]).max() <= 2
