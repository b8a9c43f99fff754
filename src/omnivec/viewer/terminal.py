"""Images in a terminal: kitty's graphics protocol, iTerm2's inline images, or coloured half blocks.

https://sw.kovidgoyal.net/kitty/graphics-protocol and https://iterm2.com/documentation-images.html
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from omnivec.viewer.thumbnails import png, smallest

if TYPE_CHECKING:
    from PIL import Image

ROWS, COLUMNS = 8, 32
"""Most cells of a terminal that an image takes; a cell is assumed to be twice as high as wide."""

_CHUNK = 4096  # most base64 characters in one of kitty's escape codes
_HALF = "▀"


@dataclass(frozen=True)
class ImageProtocol:
    """A protocol for showing an image in a terminal.

    Attributes:
        width: most pixels of an image's width.
        height: most pixels of its height.
        draw: an image of at most that size -> the text to print, without a final line end.
    """

    width: int
    height: int
    draw: Callable[[Image.Image], str]

    def show(self, path: Path, thumbnail: Callable[[Path, int, int], Image.Image]) -> str:
        """The text that shows the thumbnail of a file; ItemError if the file is missing or damaged.

        Args:
            path: of the file.
            thumbnail: (file, largest width, largest height) -> an image.
        """
        return self.draw(thumbnail(path, self.width, self.height))


def kitty(image: Image.Image) -> str:
    """Kitty's graphics protocol: a PNG in chunks; q=2 suppresses the terminal's answer, which nobody would read."""
    payload = base64.b64encode(png(image)).decode()
    chunks = [payload[i : i + _CHUNK] for i in range(0, len(payload), _CHUNK)]
    # One side only: the terminal knows the size of its cells, and computes the other without distortion.
    side = f"c={COLUMNS}" if image.width * ROWS * 2 > image.height * COLUMNS else f"r={ROWS}"
    keys = [f"a=T,f=100,q=2,{side},", *[""] * (len(chunks) - 1)]
    more = [*[1] * (len(chunks) - 1), 0]
    return "".join(
        f"\x1b_G{key}m={m};{chunk}\x1b\\" for key, m, chunk in zip(keys, more, chunks, strict=True)
    )


def iterm(image: Image.Image) -> str:
    """iTerm2's inline images: a whole file, and the cells that it is fitted into."""
    content = smallest(image)[1]
    keys = f"inline=1;size={len(content)};width={COLUMNS};height={ROWS};preserveAspectRatio=1"
    return f"\x1b]1337;File={keys}:{base64.b64encode(content).decode()}\a"


def half_blocks(image: Image.Image) -> str:
    """Two pixels in each cell, in 24-bit colours: the upper is the foreground of "▀", the lower its background."""
    pixels = np.asarray(image).tolist()
    return "\n".join(_line(pixels[top : top + 2]) for top in range(0, len(pixels), 2))


def _line(rows: list[list[list[int]]]) -> str:
    upper, lower = rows[0], rows[1] if len(rows) == 2 else [None] * len(rows[0])
    return "".join(_cells(zip(upper, lower, strict=True))) + "\x1b[0m"


def _cells(pairs: Iterator[tuple[list[int], list[int] | None]]) -> Iterator[str]:
    last = ""
    for (r, g, b), below in pairs:
        behind = "49" if below is None else "48;2;{};{};{}".format(*below)
        colours = f"\x1b[38;2;{r};{g};{b};{behind}m"
        yield _HALF if colours == last else colours + _HALF
        last = colours


_SHARP = 512, 256
KITTY, ITERM = ImageProtocol(*_SHARP, kitty), ImageProtocol(*_SHARP, iterm)
HALF_BLOCKS = ImageProtocol(COLUMNS, 2 * ROWS, half_blocks)

# (environment variable, value, protocol) of the terminals that identify themselves.
_KNOWN = (
    ("TERM", "xterm-kitty", KITTY),
    ("TERM", "xterm-ghostty", KITTY),
    ("TERM_PROGRAM", "ghostty", KITTY),
    ("TERM_PROGRAM", "WezTerm", ITERM),  # which also has kitty's protocol, but that can be turned off
    ("TERM_PROGRAM", "iTerm.app", ITERM),
)
_BETWEEN = (
    "screen",
    "tmux",
)  # multiplexers do not pass images on to the terminal whose variables they inherit


def best_way(
    variables: Mapping[str, str], is_terminal: bool, encoding: str, wanted: bool | None = None
) -> ImageProtocol | None:
    """The protocol by which images are shown; None if they are not shown.

    Args:
        variables: of the environment.
        is_terminal: whether the output is a terminal, not a file or a pipe.
        encoding: of the output.
        wanted: True shows images even if nothing tells that the terminal can; False never shows them.
    """
    if wanted is False or not (is_terminal or wanted):
        return None
    term = variables.get("TERM", "")
    if is_terminal and not term.startswith(_BETWEEN):
        for name, value, way in _KNOWN:
            if variables.get(name) == value:
                return way
    colours = variables.get("COLORTERM") in ("truecolor", "24bit") and not variables.get("NO_COLOR")
    if not (wanted or (colours and term != "dumb")):
        return None
    try:
        _HALF.encode(encoding)
    except UnicodeEncodeError:
        return None
    return HALF_BLOCKS
