"""From a character in a text to the line of the source file it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LineStarts:
    """Where in a text a new line of its source begins.

    Attributes:
        starts: (m,) int64, ascending offsets in characters, the first 0.
        numbers: (m,) int64, the source line from 1 that the text from that offset on came from.
    """

    starts: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, text: str) -> LineStarts:
        r"""The lines of a text that is its own source, its lines ended by \n."""
        lengths = np.fromiter((len(line) + 1 for line in text.split("\n")), np.int64)
        return cls(np.cumsum(lengths) - lengths, np.arange(1, len(lengths) + 1))

    def at(self, offset: int) -> int:
        """The source line, from 1, of the character at `offset`."""
        return int(self.numbers[max(int(np.searchsorted(self.starts, offset, side="right")) - 1, 0)])
