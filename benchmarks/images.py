"""From JPEG file to a model's input: omnivec's route against Pillow and NumPy as they are usually put together.

    python benchmarks/images.py

Photographs of the packages scikit-image and scikit-learn are enlarged to 12 megapixels, with a film's grain in place of
the detail they lack, so that their files are as large as a camera's. Both routes resize to CLIP's 224 and to 384 pixels
by Pillow's bicubic filter; the plain one decodes all pixels and normalises to float32, as omnivec leaves to the graph.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

import machine
from omnivec.inputs.image.image import ImagePreparer
from omnivec.inputs.image.processing import Processing

PHOTOGRAPHS = {
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "retina.jpg")),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
}
WIDTH, HEIGHT, GRAIN, QUALITY = 4032, 3024, 5.0, 90
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIDES = (224, 384)
Route = Callable[[Sequence[Path]], NDArray[np.generic]]


def write_photographs(folder: Path) -> list[Path]:
    """JPEG files of 12 megapixels."""
    written = []
    noise = np.random.default_rng(0).normal(0, GRAIN, (HEIGHT, WIDTH, 1)).astype(np.float32)
    for package, (place, names) in PHOTOGRAPHS.items():
        origin = importlib.util.find_spec(package).origin
        for name in names:
            with Image.open(Path(origin).parent / place / name) as image:
                large = image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            pixels = np.clip(np.asarray(large, np.float32) + noise, 0, 255).astype(np.uint8)
            written.append(folder / f"{Path(name).stem}.jpg")
            Image.fromarray(pixels).save(written[-1], quality=QUALITY)
    return written


def plain(side: int) -> Route:
    """Pillow and NumPy, one image after the other."""
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)

    def one(path: Path) -> NDArray[np.float32]:
        with Image.open(path) as file:
            image = file.convert("RGB")
        scale = side / min(image.size)
        image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float32) / 255
        return ((pixels - mean) / std).transpose(2, 0, 1)

    return lambda paths: np.stack([one(path) for path in paths])


def ours(side: int, exact: bool, threads: int = 1) -> Route:
    """omnivec: uint8 rows, of JPEGs decoded at the size that is enough."""
    processing = Processing((side, side), (side, side), mean=MEAN, std=STD)
    preparer = ImagePreparer(processing, exact=exact, threads=threads)

    def route(paths: Sequence[Path]) -> NDArray[np.uint8]:
        rows = [row for (row,) in preparer.prepare([preparer.decode(path) for path in paths])]
        return preparer.collate(rows)["pixels"]

    return route


def cosines(one: NDArray[np.generic], other: NDArray[np.generic]) -> NDArray[np.float64]:
    """Of each pair of images, their pixels less their mean."""
    flat = [array.reshape(len(array), -1).astype(np.float64) for array in (one, other)]
    first, second = (array - array.mean(1, keepdims=True) for array in flat)
    return (first * second).sum(1) / np.sqrt((first * first).sum(1) * (second * second).sum(1))


def measure(paths: Sequence[Path], side: int, repetitions: int) -> list[dict[str, object]]:
    """One row for each route to inputs of side x side: the best of the repetitions, taken in turns."""
    routes: dict[str, Route] = {
        "Pillow and NumPy": plain(side),
        "omnivec": ours(side, exact=False),
        f"omnivec, {machine.cores()} threads": ours(side, exact=False, threads=machine.cores()),
        "omnivec, exact": ours(side, exact=True),
    }
    wall, cpu = dict.fromkeys(routes, np.inf), dict.fromkeys(routes, np.inf)
    pixels: dict[str, NDArray[np.generic]] = {}
    for _, name in machine.in_turns(list(routes), repetitions):
        pixels[name], took = machine.spent(lambda name=name: routes[name](paths))
        wall[name], cpu[name] = min(wall[name], took.wall), min(cpu[name], took.cpu)
    first = next(iter(routes))
    rows = []
    for name in routes:
        alike = cosines(pixels[name], pixels["omnivec, exact"]) if name != first else np.ones(1)
        rows.append(
            {
                "route": name,
                "side": side,
                "images": len(paths),
                "megabytes": machine.significant(sum(path.stat().st_size for path in paths) / 1e6, 3),
                "wall_ms": machine.significant(wall[name] / len(paths) * 1e3, 3),
                "cpu_ms": machine.significant(cpu[name] / len(paths) * 1e3, 3),
                "wall_ratio": machine.significant(wall[first] / wall[name], 3),
                "cpu_ratio": machine.significant(cpu[first] / cpu[name], 3),
                "row_bytes": pixels[name][0].nbytes,
                "cosine_to_exact_mean": machine.significant(alike.mean(), 6),
                "cosine_to_exact_min": machine.significant(alike.min(), 6),
                "pillow": PIL.__version__,
                "jpeg": features.version("libjpeg_turbo") or features.version("jpg"),
            }
        )
    return rows


def main() -> None:
    """Measures all and writes the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "images.csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder))
        rows = [row for side in SIDES for row in measure(paths, side, options.repetitions)]
    machine.print_table(
        rows, ("route", "side", "wall_ms", "cpu_ms", "wall_ratio", "cpu_ratio", "cosine_to_exact_min")
    )
    machine.write_csv(options.out, rows, ("route", "side", "cpu"))


if __name__ == "__main__":
    main()
