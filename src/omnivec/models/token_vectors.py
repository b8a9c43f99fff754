"""`Tokens`: vectors of the tokens or words of one text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats


@dataclass(frozen=True, eq=False)
class Tokens:
    """Vectors of the tokens or words of one text.

    Attributes:
        vectors: (n, width) float32, one for each token or word, without the special tokens.
        spans: (n, 2) int64, start and end offsets of each in characters, end exclusive.
        texts: the n tokens or words, as they are in the text.
    """

    vectors: Floats
    spans: NDArray[np.int64]
    texts: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Tokens: {len(self.texts):,} of {self.vectors.shape[1]} components>"
