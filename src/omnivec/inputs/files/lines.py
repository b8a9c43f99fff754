"""Maps an offset in a text to the line of the source file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LineStarts:
    """The offsets in a text at which lines of its source begin.

    Attributes:
        starts: (m,) int64, ascending offsets in characters, the first 0.
        numbers: (m,) int64, the number of the source line, from 1, of the text from each offset on.
    """

    starts: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, text: str) -> LineStarts:
        r"""Makes the line starts of a text that is its own source, with lines that end with \n."""
        lengths = np.fromiter((len(line) + 1 for line in text.split("\n")), np.int64)
        return cls(np.cumsum(lengths) - lengths, np.arange(1, len(lengths) + 1))

    def at(self, offset: int) -> int:
        """Returns the source line, from 1, of the character at `offset`."""
        return int(self.numbers[max(int(np.searchsorted(self.starts, offset, side="right")) - 1, 0)])
