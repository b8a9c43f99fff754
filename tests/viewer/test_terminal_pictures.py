"""Pictures in a terminal, read back from their bytes as a terminal would."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omnivec.errors import ItemError
from omnivec.inputs.image.thumbnail import thumbnail
from omnivec.viewer.terminal import (
    COLUMNS,
    HALF_BLOCKS,
    ITERM,
    KITTY,
    ROWS,
    best_way,
    half_blocks,
    iterm,
    kitty,
)
from photographs import paths


def read_kitty(text: str) -> tuple[dict[str, str], Image.Image]:
    """The keys of the first escape code, and the image; every character must belong to one."""
    codes = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{payload}\x1b\\" for keys, payload in codes) == text
    said = [dict(pair.split("=") for pair in keys.split(",")) for keys, _ in codes]
    assert [keys["m"] for keys in said] == ["1"] * (len(codes) - 1) + ["0"]
    assert all(set(keys) == {"m"} for keys in said[1:])
    payloads = [payload for _, payload in codes]
    assert all(len(p) <= 4096 for p in payloads) and all(len(p) % 4 == 0 for p in payloads)
    return said[0], Image.open(io.BytesIO(base64.b64decode("".join(payloads), validate=True)))


def read_half_blocks(text: str) -> np.ndarray:
    """Pixels (h, w, 3) of what a terminal would show; the default background is -1."""
    rows = []
    for line in text.split("\n"):
        assert line.endswith("\x1b[0m")
        upper, lower, above, below = [], [], None, None
        for code, letter in re.findall(r"\x1b\[([\d;]*)m|(.)", line):
            if letter:
                assert letter == "▀"
                upper.append(above)
                lower.append(below)
            elif code != "0":
                numbers = list(map(int, code.split(";")))
                assert numbers[:2] == [38, 2]
                above = numbers[2:5]
                below = [-1] * 3 if numbers[5:] == [49] else numbers[7:]
                assert numbers[5:] == [49] or numbers[5:7] == [48, 2]
        rows += [upper, lower]
    return np.array(rows)


@pytest.mark.parametrize("name", ["china", "horse"])
def test_kitty_gets_a_png_in_chunks(name):
    image = Image.open(paths()[name]).convert("RGB").resize((300, 200))
    keys, shown = read_kitty(kitty(image))
    assert (keys["a"], keys["f"], keys["q"]) == ("T", "100", "2")
    assert shown.format == "PNG" and np.array_equal(np.asarray(shown), np.asarray(image))


@pytest.mark.parametrize(
    ("size", "side"), [((300, 200), "r"), ((10, 300), "r"), ((400, 200), "r"), ((402, 200), "c")]
)
def test_kitty_keeps_the_shape_within_its_cells(size, side):
    keys, _ = read_kitty(kitty(Image.new("RGB", size)))
    given_cells = {key: keys[key] for key in "cr" if key in keys}
    assert given_cells == ({"r": str(ROWS)} if side == "r" else {"c": str(COLUMNS)})


def test_iterm_gets_a_file_with_its_size():
    image = Image.open(paths()["china"]).resize((300, 200))
    whole = re.fullmatch(r"\x1b\]1337;File=([^:]*):([\w+/=]+)\a", iterm(image))
    assert whole is not None
    keys, payload = whole.groups()
    said, content = dict(pair.split("=") for pair in keys.split(";")), base64.b64decode(payload)
    assert (said["inline"], said["size"], said["preserveAspectRatio"]) == ("1", str(len(content)), "1")
    assert (said["width"], said["height"]) == (str(COLUMNS), str(ROWS))
    assert Image.open(io.BytesIO(content)).size == (300, 200)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(2, 256), st.integers(0, 2**32 - 1))
def test_half_blocks_hold_every_pixel(height, width, colours, seed):
    pixels = np.random.default_rng(seed).integers(0, colours, (height, width, 3), np.uint8)
    shown = read_half_blocks(half_blocks(Image.fromarray(pixels)))
    assert np.array_equal(shown[:height], pixels)
    assert shown.shape == (height + height % 2, width, 3) and (shown[height:] == -1).all()


def test_equal_neighbours_share_their_colours():
    assert half_blocks(Image.new("RGB", (3, 2), (1, 2, 3))) == "\x1b[38;2;1;2;3;48;2;1;2;3m▀▀▀\x1b[0m"


def test_a_file_is_shown_within_the_cells(tmp_path):
    Image.open(paths()["china"]).save(tmp_path / "a.jpg")  # 640 x 427
    shown = read_half_blocks(HALF_BLOCKS.show(tmp_path / "a.jpg", thumbnail))
    assert shown.shape == (16, 24, 3)
    assert shown[0].mean() > shown[-1].mean() + 40  # the sky above, trees below
    _, sharp = read_kitty(KITTY.show(tmp_path / "a.jpg", thumbnail))
    assert sharp.size == (384, 256)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:500])
    with pytest.raises(ItemError, match="damaged"):
        ITERM.show(tmp_path / "a.jpg", thumbnail)


COLOURFUL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.mark.parametrize(
    ("variables", "way"),
    [
        ({"TERM": "xterm-kitty", "COLORTERM": "truecolor"}, KITTY),
        ({"TERM": "xterm-ghostty"}, KITTY),
        ({"TERM_PROGRAM": "ghostty", "TERM": "xterm-256color"}, KITTY),
        ({"TERM_PROGRAM": "WezTerm"}, ITERM),
        ({"TERM_PROGRAM": "iTerm.app", "COLORTERM": "truecolor"}, ITERM),
        ({"TERM_PROGRAM": "ghostty", "TERM": "screen-256color", "COLORTERM": "24bit"}, HALF_BLOCKS),
        ({"TERM_PROGRAM": "iTerm.app", "TERM": "tmux-256color"}, None),
        (COLOURFUL, HALF_BLOCKS),
        (COLOURFUL | {"NO_COLOR": "1"}, None),
        (COLOURFUL | {"TERM": "dumb"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_the_way_is_what_the_terminal_knows(variables, way):
    assert best_way(variables, True, "utf-8") is way
    assert best_way(variables, False, "utf-8") is None  # a file or a pipe
    assert best_way(variables, True, "utf-8", False) is None
    assert best_way(variables, True, "utf-8", True) is (way or HALF_BLOCKS)
    assert best_way(variables, False, "utf-8", True) is HALF_BLOCKS


def test_half_blocks_need_letters_for_them():
    assert best_way(COLOURFUL, True, "ascii") is None
    assert best_way(COLOURFUL, True, "cp437") is HALF_BLOCKS
    assert best_way({"TERM": "xterm-kitty"}, True, "ascii") is KITTY
