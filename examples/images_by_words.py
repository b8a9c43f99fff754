"""Find images by words: an image model and a text model are joined by a few hundred captioned images.

python examples/images_by_words.py

The images are drawn here, so that the example needs no data: circles and squares in several colours and sizes.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import omnivec

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square")


def draw(folder: Path, colour: str, shape: str, size: int) -> Path:
    """Draws one shape into a PNG file of 224 by 224 pixels."""
    image = Image.new("RGB", (224, 224), "white")
    box = (112 - size, 112 - size, 112 + size, 112 + size)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=colour)
    path = folder / f"{colour}-{shape}-{size}.png"
    image.save(path)
    return path


def main() -> None:
    """Trains a joint model on most sizes, and searches the images of a size it has not seen."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        kinds = list(itertools.product(COLOURS, SHAPES))
        pairs = [(draw(folder, c, s, size), f"a {c} {s}") for size in range(30, 100, 10) for c, s in kinds]
        joint = omnivec.train("align", pairs, left="efficientnet-lite0", right="all-MiniLM-L6-v2")
        unseen = {f"a {c} {s}": draw(folder, c, s, 47) for c, s in kinds}
        vectors = joint.encode(list(unseen.values()))
        for words in ("a red circle", "a blue square", "a green circle"):
            best = omnivec.similarity(joint.encode(words), vectors).argmax()
            print(f"{words}: {list(unseen.values())[best].name}")


if __name__ == "__main__":
    main()
