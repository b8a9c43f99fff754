"""The perceptual hash: against its definition, and what copies and other photographs do to it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

import photographs
from omnivec.inputs.image.hashes import image_hash, phash


def differing(one: np.uint64, other: np.uint64) -> int:
    return (int(one) ^ int(other)).bit_count()


def test_equal_to_its_definition():
    """Zauner 2010, 3.1.2: a 32 x 32 mean image, its DCT-II, the 8 x 8 block behind the first row and column."""
    for name in ("china", "astronaut", "camera"):
        image = photographs.rgb(name).crop((0, 0, 320, 256))
        pixels = np.asarray(image)
        grey = pixels.astype(np.float64) @ [0.299, 0.587, 0.114]
        small = grey.reshape(32, 8, 32, 10).mean((1, 3))
        block = dctn(small, norm="ortho")[1:9, 1:9].ravel()
        bits = "".join("1" if wave > np.median(block) else "0" for wave in block)
        assert differing(phash(pixels), np.uint64(int(bits, 2))) == 0


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 255))
def test_an_image_of_one_colour_is_0_at_every_size(height, width, colour):
    assert phash(np.full((height, width), colour, np.uint8)) == 0
    assert phash(np.full((height, width, 3), colour, np.uint8)) == 0


def test_half_the_bits_are_set_and_the_negative_sets_the_others():
    pixels = np.asarray(photographs.rgb("coffee"))
    assert int(phash(pixels)).bit_count() == 32
    assert differing(phash(pixels), phash(255 - pixels)) == 64


def test_brightness_and_contrast_change_little():
    pixels = np.asarray(photographs.rgb("astronaut"), np.float32)
    for changed in (pixels * 0.5, pixels * 0.6 + 60):
        assert differing(phash(pixels.astype(np.uint8)), phash(changed.astype(np.uint8))) <= 4


def test_a_file_is_hashed_as_it_is_seen(tmp_path):
    image = photographs.rgb("china")
    upright = phash(np.asarray(image))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    image.transpose(Image.Transpose.ROTATE_90).save(path, quality=90, exif=exif)
    assert differing(image_hash(path), upright) <= 2
    assert differing(image_hash(photographs.encoded(image, "PNG")), upright) == 0
    assert differing(phash(np.asarray(image.transpose(Image.Transpose.ROTATE_90))), upright) > 16
