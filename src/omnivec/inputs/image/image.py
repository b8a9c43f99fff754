"""The preparer of images: the `Path` of a file or its bytes, a PIL image, or uint8 (h, w, 3).

Only the header of an image is read at first; it is decoded just before it is embedded, to save memory. Batches are
uint8 and are normalised in the model's graph, which takes a quarter of the memory of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.image.pixels import MAX_PIXELS, ImageSource, decode_image, read_header
from omnivec.inputs.image.processing import Processing
from omnivec.ops.base import Input, Ops, Value
from omnivec.ops.process import MemoryReservation
from omnivec.types import Decode, ModalityName, Prepared
from omnivec.validation.reasons import of_item

UNIT = "pixels"


@dataclass(frozen=True, eq=False)
class ImagePreparer:
    """Makes the pixels for one model from images; may be called from several threads.

    Attributes:
        processing: preprocessing of the model.
        exact: whether JPEG files are decoded at full size, as the reference does, instead of a sufficient size.
        threads: number of images to decode at the same time.
        max_pixels: largest number of pixels of an image; larger ones are refused.
        room: memory reservation for decoding.
    """

    processing: Processing
    exact: bool = False
    threads: int = 1
    max_pixels: int = MAX_PIXELS
    room: MemoryReservation = field(default_factory=MemoryReservation, repr=False)

    unit = UNIT
    modality: ModalityName = "image"
    chunk = 32

    @property
    def budget(self) -> int:
        """Largest cost of a batch: the pixels of eight images."""
        return 8 * self.limit

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines its pixels."""
        return {"preprocessing": asdict(self.processing)}

    @property
    def provenance(self) -> dict[str, str]:
        """Settings that may change the last digits of a vector."""
        decode: Decode = "exact" if self.exact else "reduced"
        return {"decode": decode}

    def batch(self, ops: Ops, get: Callable[[str], Value]) -> SimpleNamespace:
        """Makes the input of a forward function: pixels (n, 3, h, w) float32, and `size` (h, w); there is no mask."""
        pixels = normalized(ops, get("pixels"), self.processing)
        return SimpleNamespace(pixels=pixels, size=self.processing.size, mask=None)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays that `collate` makes: pixels (n, h, w, 3) uint8."""
        return (Input("pixels", np.uint8, (None, *self.processing.size, 3)),)

    @property
    def limit(self) -> int:
        """Number of pixels of the model's input."""
        height, width = self.processing.size
        return height * width

    def decode(self, item: Any) -> ImageSource:
        """Reads the header of an image; ItemError if it is not an image, or cannot be read."""
        return item if isinstance(item, ImageSource) else read_header(item, self.max_pixels)

    def size(self, decoded: ImageSource) -> int:
        """Estimates the cost of decoding; computing costs the same for all images."""
        return decoded.pixels

    def key(self, decoded: ImageSource) -> Hashable:
        """Returns a key that is equal for the same file or bytes; None for an image in memory."""
        return decoded.key

    def prepare(
        self, pictures: Sequence[ImageSource], reading: object = None
    ) -> list[tuple[Prepared, ...] | ItemError]:
        """Makes the model's pixels of each image, always in one part, since images are resized.

        Args:
            pictures: results of `decode`.
            reading: options for texts, which are not used.

        Returns:
            One part for each image; an ItemError for an image that is damaged or truncated.
        """
        if self.threads == 1 or len(pictures) < 2:
            return [self._prepared(picture) for picture in pictures]
        with ThreadPoolExecutor(min(self.threads, len(pictures))) as pool:
            return list(pool.map(self._prepared, pictures))

    def _prepared(self, picture: ImageSource) -> tuple[Prepared, ...] | ItemError:
        processing = self.processing
        try:
            with self.room.entry() as take:
                shown = decode_image(
                    picture, None if self.exact else processing.min_size, self.max_pixels, take
                )
                pixels = processing.apply(shown)
        except BaseException as error:
            return ItemError(of_item(error))
        seen = processing.seen(shown.height, shown.width)
        return (Prepared({"pixels": pixels}, self.limit, seen, shown.height * shown.width - seen),)

    def sample(self) -> dict[str, NDArray[Any]]:
        """Makes a batch of typical size, for measurements."""
        return {"pixels": np.full((8, *self.processing.size, 3), 128, np.uint8)}

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Stacks rows to one array: pixels (n, h, w, 3) uint8."""
        return {"pixels": np.stack([row.arrays["pixels"] for row in rows])}


def normalized(ops: Ops, pixels: Value, processing: Processing) -> Value:
    """Normalises pixels (n, h, w, 3) uint8 -> (n, 3, h, w) float32, as in the model's training."""
    factor, addend = (ops.constant(values.reshape(3, 1, 1)) for values in processing.affine())
    # Transposing uint8 moves a quarter of the bytes, and arithmetic on rows of pixels fills vector registers.
    return ops.cast(ops.transpose(pixels, (0, 3, 1, 2)), "float32") * factor + addend
