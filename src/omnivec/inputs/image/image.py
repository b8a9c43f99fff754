"""Images, in pixels: the `Path` of a file or its bytes, a PIL image, or uint8 (h, w, 3).

A header is read at once; the pixels are when the model is about to see them, so that thousands of photographs take no
memory. Rows are uint8, and normalised in the model's graph: a quarter of the memory, and no pass over them here.
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
    """Images to pixels, as a model wants them; safe to call from several threads.

    Attributes:
        processing: the model's.
        exact: whether JPEG files are decoded whole, as the reference does, and not at the size that is enough.
        threads: images decoded at a time.
        max_pixels: an image with more is refused.
        room: memory for decoding.
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
        """Pixels in a batch: those of eight images."""
        return 8 * self.limit

    @property
    def identity(self) -> dict[str, Any]:
        """What makes its pixels what they are."""
        return {"preprocessing": asdict(self.processing)}

    @property
    def provenance(self) -> dict[str, str]:
        """How exactly it reads: what may change a vector's last digits."""
        decode: Decode = "exact" if self.exact else "reduced"
        return {"decode": decode}

    def batch(self, ops: Ops, get: Callable[[str], Value]) -> SimpleNamespace:
        """What a forward takes: pixels (n, 3, h, w) float32, and `size` (h, w), two ints; there is no mask."""
        pixels = normalized(ops, get("pixels"), self.processing)
        return SimpleNamespace(pixels=pixels, size=self.processing.size, mask=None)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays that `collate` makes: pixels (n, h, w, 3) uint8."""
        return (Input("pixels", np.uint8, (None, *self.processing.size, 3)),)

    @property
    def limit(self) -> int:
        """Pixels of the model's input."""
        height, width = self.processing.size
        return height * width

    def decode(self, item: Any) -> ImageSource:
        """The image of an item, its header read; ItemError where it has none."""
        return item if isinstance(item, ImageSource) else read_header(item, self.max_pixels)

    def size(self, decoded: ImageSource) -> int:
        """A rough cost: that of decoding, since computing costs the same for all."""
        return decoded.pixels

    def key(self, decoded: ImageSource) -> Hashable:
        """The same file or the same bytes; None for an image in memory."""
        return decoded.key

    def prepare(
        self, pictures: Sequence[ImageSource], reading: object = None
    ) -> list[tuple[Prepared, ...] | ItemError]:
        """The model's pixels of each image: one part each, since images are resized and not cut.

        Args:
            pictures: what `decode` has returned.
            reading: of texts; nothing of it means an image.

        Returns:
            Parts; in place of an image that is damaged or cut off stands why.
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
        """A batch of usual size, to measure with."""
        return {"pixels": np.full((8, *self.processing.size, 3), 128, np.uint8)}

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Rows as one array: pixels (n, h, w, 3) uint8."""
        return {"pixels": np.stack([row.arrays["pixels"] for row in rows])}


def normalized(ops: Ops, pixels: Value, processing: Processing) -> Value:
    """Pixels (n, h, w, 3) uint8 -> (n, 3, h, w) float32, as the model was trained on."""
    factor, addend = (ops.constant(values.reshape(3, 1, 1)) for values in processing.affine())
    # Transposed as uint8, a quarter of the bytes; and three channels side by side would fill no vector register.
    return ops.cast(ops.transpose(pixels, (0, 3, 1, 2)), "float32") * factor + addend
